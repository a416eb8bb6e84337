/**
 * How an event relates to another one, read from its content, which anybody may have written.
 *
 * Source: "Forming relationships between events" of the client-server specification.
 */
import type { Event } from "../Event.ts"
import { type EventId, isEventId, isUserId, type UserId } from "../Identifiers.ts"
import { isJsonObject } from "../Json.ts"
import { isStorable } from "../Text.ts"

/** `m.relates_to`: the type of the relation, and the event to which another one relates. */
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
    isStorable(relType) &&
    typeof eventId === "string" &&
    isEventId(eventId)
    ? { relType, eventId }
    : undefined
}

/** How many relations are followed from an event to the root of its thread. A reaction to an edit of an event in a thread has three. */
export const maxThreadHops = 3

/**
 * The root of the thread that an event is in: by its own relation, or by that of an event that it relates to. Undefined for the main
 * timeline. `relation`: the relation of an event, where it is known.
 *
 * Source: "Threaded read receipts" of the client-server specification.
 */
export const threadBy = (
  relation: (eventId: EventId) => Relation | undefined,
  eventId: EventId
): EventId | undefined => {
  let at = relation(eventId)
  for (let hops = 1; at !== undefined && hops <= maxThreadHops; hops++) {
    if (at.relType === "m.thread") return at.eventId
    at = relation(at.eventId)
  }
  return undefined
}

/** The users whom an event mentions. */
export const mentionedBy = ({ content }: Pick<Event, "content">): ReadonlyArray<UserId> => {
  const mentions = content["m.mentions"]
  const ids = isJsonObject(mentions) ? mentions.user_ids : undefined
  if (!Array.isArray(ids)) return []
  return [...new Set(ids.filter((id): id is UserId => typeof id === "string" && isUserId(id)))].slice(0, maxMentions)
}

/** The effect of an event on the other members of its room who have the default push rules. */
export interface DefaultPush {
  readonly notifies: boolean
  readonly highlights: boolean
  /** Whether those whom the event mentions are notified, whatever it does for others. */
  readonly mentions: boolean
}

const nothing: DefaultPush = { notifies: false, highlights: false, mentions: false }
const mentionsAlone: DefaultPush = { notifies: false, highlights: false, mentions: true }
const notifying: DefaultPush = { notifies: true, highlights: false, mentions: true }
const highlighting: DefaultPush = { notifies: true, highlights: true, mentions: true }

/**
 * Evaluates the default push rules for an event, in their order. `mentionsRoom`: whether it mentions the room, and its
 * sender may. `relation`: that of the event, where it is at hand. Invitations notify the invited user alone, and are not
 * among these.
 */
export const defaultPush = (
  event: Pick<Event, "type" | "content" | "state_key">,
  mentionsRoom: boolean,
  relation: Relation | undefined = relationOf(event)
): DefaultPush => {
  const { content, state_key, type } = event
  if (content.msgtype === "m.notice" || type === "m.room.member") return nothing
  if (mentionsRoom || (type === "m.room.tombstone" && state_key === "")) return highlighting
  if (relation?.relType === "m.replace") return mentionsAlone
  const isMessage = type === "m.room.message" || type === "m.room.encrypted" || type === "m.call.invite"
  return isMessage && state_key === undefined ? notifying : mentionsAlone
}
