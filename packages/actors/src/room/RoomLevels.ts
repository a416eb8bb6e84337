/**
 * The power levels of a room of which a user is a member, as the room's version reads them from the stored state.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { Levels } from "@greenroom/room/RoomVersion"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { RoomStore } from "@greenroom/store/RoomStore"
import { StateStore } from "@greenroom/store/StateStore"
import { Effect, Option } from "effect"

const keys = [
  ["m.room.create", ""],
  ["m.room.power_levels", ""]
] as const

/** Undefined if the user is not in the room. */
export const makeRoomLevels = Effect.gen(function* () {
  const rooms = yield* RoomStore
  const states = yield* StateStore

  return Effect.fnUntraced(function* (userId: UserId, roomId: RoomId) {
    const found = Option.getOrUndefined(yield* rooms.membership(userId, roomId))
    if (found?.membership !== "join" || found.current === undefined) return Option.none<Levels>()
    const id = yield* rooms.version(roomId)
    const version = Option.isSome(id) ? roomVersion(id.value) : undefined
    if (version === undefined) return Option.none<Levels>()
    const state = yield* states.read([{ roomNid: found.roomNid, ref: found.current }], { keys })
    const lookup = (type: string, stateKey: string) =>
      state.find(({ event }) => event.type === type && event.state_key === stateKey)?.event
    return Option.some(version.levels(lookup))
  })
})
