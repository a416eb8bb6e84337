/**
 * Leaves of our users from rooms that this server does not take part in: rejected invitations, knocks that are taken back, and joins
 * that failed.
 *
 * Source: "Leaving Rooms (Rejecting Invites)" of the server-server specification.
 */
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { UnfinishedMembershipStore } from "@greenroom/store/UnfinishedMembershipStore"
import { Clock, Effect, Fiber, Option } from "effect"
import { RemoteRooms } from "../RemoteRooms.ts"
import type { RoomTransaction } from "../RoomProtocol.ts"
import type { OutgoingHandshakes } from "./OutgoingHandshakes.ts"
import type { OutsideMemberships } from "./OutsideMemberships.ts"
import type { Failure, RoomIntake } from "./RoomIntake.ts"
import type { RoomWriter } from "./RoomWriter.ts"
import { mayPassLater } from "./remoteRefusals.ts"

export interface LeaveRequest {
  readonly userId: UserId
  readonly servers: ReadonlyArray<ServerName>
  readonly reason?: string
  readonly transaction?: RoomTransaction
}

export const makeOutgoingLeaves = Effect.fnUntraced(function* (
  writer: RoomWriter,
  { intakeLock }: RoomIntake,
  { logOutside }: OutsideMemberships,
  { complete, firstOf, forkRequest, joins }: OutgoingHandshakes
) {
  const { load, roomId, rooms, signingKey, transactions, withNids } = writer
  const remote = yield* RemoteRooms
  const unfinished = yield* UnfinishedMembershipStore

  /** Whether the user has come into the room by now, also after a join that is under way. */
  const isBack = Effect.fnUntraced(function* (userId: UserId) {
    const joining = joins.get(userId)
    if (joining !== undefined) yield* Fiber.await(joining)
    const room = yield* Effect.option(load)
    return Option.isSome(room) && room.value.isOurs && room.value.membershipOf(userId) === "join"
  })

  const sendLeave = (
    userId: UserId,
    servers: ReadonlyArray<ServerName>,
    content: JsonObject
  ): Effect.Effect<void, Failure> =>
    firstOf(servers, (server) =>
      Effect.gen(function* () {
        const { event, version } = yield* complete(server, "leave", userId, content)
        yield* remote.sendMembership(server, version, "leave", event)
      })
    )

  /** The leave of each user that is being sent. A later one of the same user replaces it. */
  const leaving = new Map<UserId, JsonObject>()

  /**
   * Notifies one of the servers that our user is not in the room, in the background. If none can be reached, `UnfinishedMemberships`
   * tries again later. A server that has no such membership needs none to be taken back.
   */
  const announceLeave = (
    userId: UserId,
    servers: ReadonlyArray<ServerName>,
    content: JsonObject
  ): Effect.Effect<void> =>
    Effect.gen(function* () {
      yield* unfinished.put({ roomId, userId, membership: "leave", servers, content })
      leaving.set(userId, content)
      const isLatest = () => leaving.get(userId) === content
      yield* Effect.flatMap(isBack(userId), (back) => (back ? Effect.void : sendLeave(userId, servers, content))).pipe(
        Effect.catchIf(
          (error) => !mayPassLater(error),
          () => Effect.void
        ),
        Effect.andThen(Effect.suspend(() => (isLatest() ? unfinished.remove(roomId, userId) : Effect.void))),
        Effect.catchCause((cause) => Effect.logDebug(`No server of ${roomId} has taken the leave of ${userId}`, cause)),
        Effect.ensuring(Effect.sync(() => isLatest() && leaving.delete(userId))),
        forkRequest
      )
    })

  /**
   * Leaves a room that this server is not in: an invitation is rejected, a knock taken back. The user's membership ends here
   * at once, whatever other servers answer: the leave is sent to them afterwards.
   */
  const leaveRemotely = ({ reason, servers, transaction, userId }: LeaveRequest): Effect.Effect<void, Failure> =>
    intakeLock.withPermits(1)(
      Effect.gen(function* () {
        const known = yield* rooms.membership(userId, roomId)
        const remembered = yield* unfinished.find(roomId, userId)
        const through = [...new Set([...(remembered?.servers ?? []), ...servers])]
        const content = reason === undefined ? {} : { reason }
        if (Option.isNone(known) || known.value.membership === "leave") {
          return leaving.has(userId) ? undefined : yield* announceLeave(userId, through, content)
        }
        const room = yield* load
        if (room.isOurs) return yield* unfinished.remove(roomId, userId)
        const now = yield* Clock.currentTimeMillis
        const proposal = {
          room_id: roomId,
          type: "m.room.member",
          sender: userId,
          state_key: userId,
          content: { ...content, membership: "leave" }
        }
        const position = { prevEvents: [], state: () => undefined, now }
        const event = room.version.build(proposal, position, yield* signingKey)
        const answer = { event_id: event.event_id }
        const answers = transaction === undefined ? [] : [transactions.row(transaction, roomId, answer)]
        yield* yield* withNids(1, () => logOutside(room, event, userId, answers))
        yield* announceLeave(userId, through, content)
      })
    )

  return { announceLeave, leaveRemotely }
})

export type OutgoingLeaves = Effect.Success<ReturnType<typeof makeOutgoingLeaves>>
