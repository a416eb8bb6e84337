/**
 * Leaves of users: out of rooms, and rejections of invitations and retractions of knocks, also in rooms that this server takes
 * no part in.
 *
 * Source: "Leaving rooms", "Server Notices" of the client-server specification.
 */
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { CannotLeaveServerNoticeRoom } from "@greenroom/protocol/MatrixError"
import { NoticeStore } from "@greenroom/store/NoticeStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Effect, Option } from "effect"
import { ask } from "../../runtime/Ask.ts"
import type { Session } from "../../runtime/Session.ts"
import { Room } from "../RoomProtocol.ts"
import type { EventRequests, RequestTransaction } from "./EventRequests.ts"
import type { ViaServers } from "./ViaServers.ts"

export const makeLeaveRequests = Effect.fnUntraced(function* (
  { propose, transactionOf }: EventRequests,
  { isHere, serversFor }: ViaServers
) {
  const room = yield* Room.client
  const rooms = yield* RoomStore
  const notices = yield* NoticeStore

  /** The invitation to the room of server notices cannot be rejected; the room can be left. */
  const mustNotRejectNotices = Effect.fnUntraced(function* (userId: UserId, roomId: RoomId) {
    if (!Option.contains(yield* notices.roomOf(userId), roomId)) return
    const membership = yield* rooms.membership(userId, roomId)
    if (Option.isSome(membership) && membership.value.membership === "invite") {
      return yield* new CannotLeaveServerNoticeRoom({ error: "The invitation to server notices cannot be rejected" })
    }
  })

  /**
   * Rejects an invitation or takes a knock back, in a room that this server takes no part in. A user who has left already gets the
   * first answer: the client may have lost it. Undefined if the rules of the room decide.
   */
  const leaveOutside = Effect.fnUntraced(function* (
    userId: UserId,
    roomId: RoomId,
    reason: string | undefined,
    transaction: RequestTransaction
  ) {
    yield* mustNotRejectNotices(userId, roomId)
    const found = yield* rooms.membership(userId, roomId)
    const membership = Option.isSome(found) ? found.value.membership : "leave"
    if (membership === "join" || membership === "ban" || (yield* isHere(roomId))) return undefined
    if (membership !== "leave") {
      const servers = yield* serversFor(userId, roomId, [])
      const why = reason === undefined ? {} : { reason }
      yield* ask(room(roomId).LeaveRemotely({ userId, servers, ...why, ...transaction }))
    }
    const left = yield* rooms.ownLeave(userId, roomId)
    return membership === "leave" && Option.isNone(left) ? undefined : { event_id: Option.getOrUndefined(left) }
  })

  const leave = Effect.fn("Rooms.leave")(function* (session: Session, roomId: RoomId, txnId?: string, reason?: string) {
    const transaction = transactionOf(session, "leave", undefined, txnId)
    if ((yield* leaveOutside(session.userId, roomId, reason, transaction)) !== undefined) return
    const content = { membership: "leave", ...(reason === undefined ? {} : { reason }) }
    yield* propose(session, roomId, { type: "m.room.member", stateKey: session.userId, content }, transaction)
  })

  return { leaveOutside, leave }
})

export type LeaveRequests = Effect.Success<ReturnType<typeof makeLeaveRequests>>
