/**
 * The state of a room that users outside it are shown: with an invitation, or in answer to a knock.
 *
 * Servers hand it to each other as PDUs, clients get it stripped.
 *
 * Source: "Stripped state" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import { withoutExactNumbers } from "@greenroom/protocol/ExactJson"
import { isUserId, type RoomId, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import type { RoomVersion, StateLookup } from "@greenroom/room/RoomVersion"
import { Result } from "effect"

const shownTypes = [
  "m.room.create",
  "m.room.name",
  "m.room.avatar",
  "m.room.topic",
  "m.room.join_rules",
  "m.room.canonical_alias",
  "m.room.encryption"
] as const

/** The events of the state that are shown, with the membership of the sender of an invitation. */
export const shownState = (state: StateLookup, sender?: UserId): ReadonlyArray<Event> => [
  ...shownTypes.flatMap((type) => state(type, "") ?? []),
  ...(sender === undefined ? [] : [state("m.room.member", sender)]).filter((event) => event !== undefined)
]

/** A state event as users outside of the room see it. The m.room.create event has its ID and time. */
export const stripped = ({ content, event_id, origin_server_ts, sender, state_key = "", type }: Event): JsonObject => ({
  type,
  state_key,
  sender,
  content,
  ...(type === "m.room.create" ? { event_id, origin_server_ts } : {})
})

/** Stripped state as another server gave it: older servers send no PDUs. */
const strippedOf = (value: JsonObject): ReadonlyArray<JsonObject> => {
  const { content, sender, state_key, type } = value
  const isState = typeof type === "string" && typeof state_key === "string" && isUserId(sender) && isJsonObject(content)
  return isState ? [withoutExactNumbers({ type, state_key, sender, content })] : []
}

/** How many events of a room a user outside of it is shown. */
const maxShown = 50

/**
 * The state that another server shows of a room, stripped. Faulty events are left out. From version 12 on they must be PDUs
 * with the right hashes, and the m.room.create event proves the room ID: undefined if it is missing.
 */
export const readShown = (
  version: RoomVersion,
  roomId: RoomId,
  shown: ReadonlyArray<JsonObject>
): ReadonlyArray<JsonObject> | undefined => {
  const createId = version.createEventId(roomId)
  let hasCreate = createId === undefined
  const events = shown.slice(0, maxShown).flatMap((pdu) => {
    const read = version.fromPdu(pdu)
    if (Result.isFailure(read)) return createId === undefined ? strippedOf(pdu) : []
    const event = read.success
    if (event.room_id !== roomId || event.state_key === undefined) return []
    hasCreate ||= event.event_id === createId
    return [stripped(event)]
  })
  return hasCreate ? events : undefined
}
