/**
 * How an event relates to another one, read from its content, which anybody may have written.
 *
 * Source: "Forming relationships between events" of the client-server specification.
 */
import type { Event } from "../Event.ts"
import { type EventId, isEventId, isUserId, type UserId } from "../Identifiers.ts"
import { isJsonObject } from "../Json.ts"

export interface Relation {
  readonly relType: string
  readonly eventId: EventId
}

/** The longest type of a relation, in characters. */
const maxRelType = 255
/** The most users that one event mentions. */
const maxMentions = 50

/** The relation of an event; undefined if it has none. */
export const relationOf = ({ content }: Pick<Event, "content">): Relation | undefined => {
  const relation = content["m.relates_to"]
  if (!isJsonObject(relation)) return undefined
  const { event_id: eventId, rel_type: relType } = relation
  return typeof relType === "string" &&
    relType.length > 0 &&
    relType.length <= maxRelType &&
    !relType.includes("\0") &&
    relType.isWellFormed() &&
    typeof eventId === "string" &&
    isEventId(eventId)
    ? { relType, eventId }
    : undefined
}

/** The root of the thread that the event is in; undefined for the main timeline. */
export const threadOf = (event: Pick<Event, "content">): EventId | undefined => {
  const relation = relationOf(event)
  return relation?.relType === "m.thread" ? relation.eventId : undefined
}

/** The users whom an event mentions. */
export const mentionedBy = ({ content }: Pick<Event, "content">): ReadonlyArray<UserId> => {
  const mentions = content["m.mentions"]
  const ids = isJsonObject(mentions) ? mentions.user_ids : undefined
  if (!Array.isArray(ids)) return []
  return [...new Set(ids.filter((id): id is UserId => typeof id === "string" && isUserId(id)))].slice(0, maxMentions)
}

/**
 * Whether the event notifies members who have the default push rules: messages but notices and edits, encrypted events,
 * and the end of a room. (Invitations notify by what they are.)
 */
export const notifiesByDefault = (event: Pick<Event, "type" | "content" | "state_key">): boolean => {
  if (relationOf(event)?.relType === "m.replace") return false
  switch (event.type) {
    case "m.room.message":
      return event.state_key === undefined && event.content.msgtype !== "m.notice"
    case "m.room.encrypted":
      return event.state_key === undefined
    case "m.room.tombstone":
      return event.state_key === ""
    default:
      return false
  }
}
