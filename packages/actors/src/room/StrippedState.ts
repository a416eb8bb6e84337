/**
 * Stripped state: the state events of a room that users outside of it receive with an invitation or a knock. Servers send
 * them to each other as PDUs, which clients receive as `toStrippedEvent` makes them. `sync/internal/StrippedRooms` puts them into
 * `/sync`.
 *
 * Source: "Stripped state" of the client-server specification.
 */
import { toStrippedEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { Event } from "@greenroom/protocol/Event"
import { withoutExactNumbers } from "@greenroom/protocol/ExactJson"
import { isUserId, type RoomId, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import type { RoomVersion, StateLookup } from "@greenroom/room/RoomVersion"
import { strippedTypes } from "@greenroom/store/StrippedStates"
import { Effect, Result } from "effect"

/** The stripped state of a room as events, with the membership of the sender of an invitation. */
export const strippedState = (state: StateLookup, sender?: UserId): ReadonlyArray<Event> => [
  ...strippedTypes.flatMap((type) => state(type, "") ?? []),
  ...(sender === undefined ? [] : [state("m.room.member", sender)]).filter((event) => event !== undefined)
]

/** A stripped event of an older server, which sends no PDUs. */
const readStrippedEvent = (value: Json): ReadonlyArray<JsonObject> => {
  if (!isJsonObject(value)) return []
  const { content, sender, state_key, type } = value
  const isState = typeof type === "string" && typeof state_key === "string" && isUserId(sender) && isJsonObject(content)
  return isState ? [withoutExactNumbers({ type, state_key, sender, content })] : []
}

/** The most events that are read of the stripped state of another server. */
const maxEvents = 50

/** The stripped state that another server sent. */
export interface ReceivedStrippedState {
  /** Its events, stripped. */
  readonly events: ReadonlyArray<JsonObject>
  /** The first violation of the specification, which requires PDUs of the room, m.room.create among them. */
  readonly fault: string | undefined
}

/**
 * Whether stripped state must be PDUs: from room version 12 on, in which the m.room.create proves the room ID. Before Matrix
 * 1.16 servers sent stripped events, which are accepted for the earlier versions.
 */
export const requiresPdus = (version: RoomVersion, roomId: RoomId): boolean =>
  version.createEventId(roomId) !== undefined

/** Reads the stripped state of another server, without faulty events. `verify` checks PDUs as `RemoteRooms.verify` does. */
export const readStrippedState = (
  version: RoomVersion,
  roomId: RoomId,
  sent: ReadonlyArray<Json>,
  verify: (pdus: ReadonlyArray<Json>) => Effect.Effect<ReadonlyArray<Result.Result<Event, string>>>
): Effect.Effect<ReceivedStrippedState> => {
  const mayBeStripped = !requiresPdus(version, roomId)
  if (mayBeStripped && sent.length === 0) return Effect.succeed({ events: [], fault: undefined })
  const pdus = sent.slice(0, maxEvents)
  return Effect.map(verify(pdus), (results) => {
    const events: Array<JsonObject> = []
    const faults: Array<string> = []
    for (const [index, result] of results.entries()) {
      if (Result.isFailure(result)) {
        const pdu = pdus[index]!
        faults.push(result.failure)
        if (mayBeStripped && Result.isFailure(version.fromPdu(pdu))) events.push(...readStrippedEvent(pdu))
      } else if (result.success.room_id !== roomId || result.success.state_key === undefined) {
        faults.push(`${result.success.event_id} is no state event of the room`)
      } else events.push({ ...toStrippedEvent(result.success) })
    }
    if (!events.some(({ type }) => type === "m.room.create")) faults.push("it lacks the m.room.create of the room")
    return { events, fault: faults[0] }
  })
}
