/**
 * The rooms that users of this server may enter: none that an administrator has blocked, and a bounded number; and how many
 * invitations may wait for an answer (`Limits`).
 */
import { formatUserId, type RoomId, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { Forbidden, InviteBlocked, UserLimitExceeded } from "@greenroom/protocol/MatrixError"
import { plural } from "@greenroom/protocol/Plural"
import { RoomRemovalStore } from "@greenroom/store/RoomRemovalStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Effect, Option } from "effect"
import { AppServices } from "../app-service/AppServices.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { defaultLimits } from "../runtime/Limits.ts"
import { makeUnderWay } from "../runtime/UnderWay.ts"
import { makeInvitePermission } from "./InvitePermission.ts"

/** One other server may have this part of the invitations of a user: a tenth. */
const serversShare = 10

export const makeMembershipLimits = Effect.gen(function* () {
  const { limits, serverName, serverNotices } = yield* HomeServerConfig
  const { invitations, rooms } = { ...defaultLimits, ...limits }
  const services = yield* AppServices
  const store = yield* RoomStore
  const removals = yield* RoomRemovalStore
  const permission = yield* makeInvitePermission
  const underWay = makeUnderWay()

  const blockedRoom = new Forbidden({ error: "This room has been blocked by an administrator of this server" })

  const mustBeOpen = (roomId: RoomId) =>
    Effect.flatMap(removals.isBlocked(roomId), (blocked) => (blocked ? blockedRoom : Effect.void))

  /** The user who sends server notices is in a room with everybody, and those of application services are in all rooms of their networks. */
  const unlimited = new Set(services.all.map(({ sender }) => sender))
  if (serverNotices !== undefined) unlimited.add(formatUserId(serverNotices.localpart, serverName))

  const isIn = (userId: UserId, roomId: RoomId) =>
    Effect.map(store.membership(userId, roomId), (found) => Option.isSome(found) && found.value.membership === "join")

  const mustTakeRoom = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId | undefined, others: number) {
    const reads = [
      roomId === undefined ? Effect.succeed(false) : removals.isBlocked(roomId),
      unlimited.has(userId) ? Effect.succeed(0) : store.countMemberships(userId, ["join", "knock"])
    ] as const
    const [blocked, count] = yield* Effect.all(reads, { concurrency: 2 })
    if (blocked) return yield* blockedRoom
    if (unlimited.has(userId) || count + others < rooms) return
    if (roomId !== undefined && (yield* isIn(userId, roomId))) return
    return yield* new UserLimitExceeded({
      error: `${userId} may be in at most ${plural(rooms, "room")}: leave one first`
    })
  })

  return {
    /** No administrator has blocked the room. Errors: M_FORBIDDEN. */
    mustBeOpen,
    /**
     * Runs `enter`, by which the user enters the room as one more, if they may; without a room ID, a new one. Rooms that they enter at
     * the same time count too. Errors: M_FORBIDDEN, M_USER_LIMIT_EXCEEDED.
     */
    entering: <A, E>(userId: UserId, roomId: RoomId | undefined, enter: Effect.Effect<A, E>) =>
      underWay(userId, (others) => Effect.andThen(mustTakeRoom(userId, roomId, others), enter)),
    /**
     * The user does not block the inviter, and one more invitation may wait for an answer. Another server takes up a part of them at
     * most, so that the others can still invite. Errors: M_INVITE_BLOCKED, M_FORBIDDEN.
     */
    mustTakeInvitation: Effect.fnUntraced(function* (userId: UserId, inviter: UserId) {
      if ((yield* permission.of(userId))(inviter) === "block") {
        return yield* new InviteBlocked({ error: `${userId} does not want invitations of ${inviter}` })
      }
      const from = serverNameOf(inviter)
      const { all, ofServer } = yield* store.countInvitations(userId, from)
      if (from !== serverName && ofServer >= Math.ceil(invitations / serversShare)) {
        return yield* new Forbidden({ error: `${userId} has ${ofServer} pending invitations from ${from}` })
      }
      if (all < invitations) return
      return yield* new Forbidden({ error: `${userId} has ${invitations} pending invitations` })
    })
  }
})

/** Refuses memberships and invitations above the limits of a user. */
export type MembershipLimits = Effect.Success<typeof makeMembershipLimits>
