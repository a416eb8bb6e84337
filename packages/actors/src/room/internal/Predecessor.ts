/**
 * The room that a room has replaced, as its m.room.create says.
 *
 * Source: "m.room.create" of the client-server specification.
 */
import { isRoomId, type RoomId } from "@greenroom/protocol/Identifiers"
import { isJsonObject } from "@greenroom/protocol/Json"
import { RoomStore } from "@greenroom/store/RoomStore"
import { StateStore } from "@greenroom/store/StateStore"
import { Effect, Option } from "effect"

/** Undefined if the room has replaced none, or is not here. */
export const makePredecessorOf = Effect.gen(function* () {
  const rooms = yield* RoomStore
  const states = yield* StateStore

  return Effect.fnUntraced(function* (room: RoomId): Effect.fn.Return<RoomId | undefined> {
    const current = yield* rooms.currentState(room)
    if (Option.isNone(current)) return undefined
    const { roomNid, state } = current.value
    const [create] = yield* states.read([{ roomNid, ref: state }], { key: ["m.room.create", ""] })
    const predecessor = create?.event.content.predecessor
    const roomId = isJsonObject(predecessor) ? predecessor.room_id : undefined
    return typeof roomId === "string" && isRoomId(roomId) ? roomId : undefined
  })
})
