/**
 * The room that a room has replaced, as its m.room.create says.
 *
 * Source: "m.room.create" of the client-server specification.
 */
import { isRoomId, type RoomId } from "@greenroom/protocol/Identifiers"
import { isJsonObject } from "@greenroom/protocol/Json"
import { StateStore } from "@greenroom/store/StateStore"
import { Effect } from "effect"

/** Undefined if the room has replaced none, or is not here. */
export const makePredecessorOf = Effect.gen(function* () {
  const states = yield* StateStore

  return Effect.fnUntraced(function* (room: RoomId): Effect.fn.Return<RoomId | undefined> {
    const [create] = yield* states.readCurrent(room, { key: ["m.room.create", ""] })
    const predecessor = create?.event.content.predecessor
    const roomId = isJsonObject(predecessor) ? predecessor.room_id : undefined
    return typeof roomId === "string" && isRoomId(roomId) ? roomId : undefined
  })
})
