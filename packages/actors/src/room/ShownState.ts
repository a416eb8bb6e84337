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
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import type { RoomVersion, StateLookup } from "@greenroom/room/RoomVersion"
import { Effect, Result } from "effect"

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
const strippedOf = (value: Json): ReadonlyArray<JsonObject> => {
  if (!isJsonObject(value)) return []
  const { content, sender, state_key, type } = value
  const isState = typeof type === "string" && typeof state_key === "string" && isUserId(sender) && isJsonObject(content)
  return isState ? [withoutExactNumbers({ type, state_key, sender, content })] : []
}

/** How many events of a room a user outside of it is shown. */
const maxShown = 50

/** The state that another server shows of a room. */
export interface ReceivedState {
  /** Its events, stripped. */
  readonly events: ReadonlyArray<JsonObject>
  /** The first reason why it is not what the specification requires: PDUs of the room, m.room.create among them. */
  readonly fault: string | undefined
}

/**
 * Whether servers must show rooms of the version by PDUs: from version 12 on, in which the m.room.create proves the room ID.
 * Before Matrix 1.16 servers showed stripped state, which is accepted for the earlier versions.
 */
export const mustShowPdus = (version: RoomVersion, roomId: RoomId): boolean =>
  version.createEventId(roomId) !== undefined

/**
 * Reads the state that another server shows of a room, without faulty events. `verify` checks PDUs as `RemoteRooms.verify`
 * does.
 */
export const readShown = (
  version: RoomVersion,
  roomId: RoomId,
  shown: ReadonlyArray<Json>,
  verify: (pdus: ReadonlyArray<Json>) => Effect.Effect<ReadonlyArray<Result.Result<Event, string>>>
): Effect.Effect<ReceivedState> => {
  const mayBeStripped = !mustShowPdus(version, roomId)
  if (mayBeStripped && shown.length === 0) return Effect.succeed({ events: [], fault: undefined })
  const pdus = shown.slice(0, maxShown)
  return Effect.map(verify(pdus), (results) => {
    const events: Array<JsonObject> = []
    const faults: Array<string> = []
    for (const [index, result] of results.entries()) {
      if (Result.isFailure(result)) {
        const pdu = pdus[index]!
        faults.push(result.failure)
        if (mayBeStripped && Result.isFailure(version.fromPdu(pdu))) events.push(...strippedOf(pdu))
      } else if (result.success.room_id !== roomId || result.success.state_key === undefined) {
        faults.push(`${result.success.event_id} is no state event of the room`)
      } else events.push(stripped(result.success))
    }
    if (!events.some(({ type }) => type === "m.room.create")) faults.push("it lacks the m.room.create of the room")
    return { events, fault: faults[0] }
  })
}
