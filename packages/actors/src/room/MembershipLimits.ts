/**
 * How many rooms a user may be in, and how many invitations may wait for an answer (`Limits`).
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden } from "@greenroom/protocol/MatrixError"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Effect, Option } from "effect"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { defaultLimits } from "../runtime/Limits.ts"

export const makeMembershipLimits = Effect.gen(function* () {
  const { limits } = yield* HomeServerConfig
  const { invitations, rooms } = { ...defaultLimits, ...limits }
  const store = yield* RoomStore

  const isIn = (userId: UserId, roomId: RoomId) =>
    Effect.map(store.membership(userId, roomId), (found) => Option.isSome(found) && found.value.membership === "join")

  return {
    /** The user may enter one more room; without a room ID, a new one. Errors: M_FORBIDDEN. */
    mustTakeRoom: Effect.fnUntraced(function* (userId: UserId, roomId?: RoomId) {
      if ((yield* store.countMemberships(userId, ["join", "knock"])) < rooms) return
      if (roomId !== undefined && (yield* isIn(userId, roomId))) return
      return yield* new Forbidden({ error: `${userId} may be in at most ${rooms} rooms: leave one first` })
    }),
    /** One more invitation may wait for the user's answer. Errors: M_FORBIDDEN. */
    mustTakeInvitation: Effect.fnUntraced(function* (userId: UserId) {
      if ((yield* store.countMemberships(userId, ["invite"])) < invitations) return
      return yield* new Forbidden({ error: `${userId} has ${invitations} invitations without an answer` })
    })
  }
})
