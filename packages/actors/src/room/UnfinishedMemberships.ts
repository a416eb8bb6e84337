/**
 * Finishes or takes back memberships that are in progress between this server and another one: those that the end of a process or an
 * outage of the database has interrupted, and leaves that no server has accepted yet. So no user is in a room for other servers
 * and not for their own.
 */
import { RoomStore } from "@greenroom/store/RoomStore"
import { type UnfinishedMembership, UnfinishedMembershipStore } from "@greenroom/store/UnfinishedMembershipStore"
import { Effect, Option, Result } from "effect"
import { ask } from "../runtime/Ask.ts"
import { outcomeOf } from "../runtime/ItemFailure.ts"
import { keepFinishing } from "../runtime/UnfinishedWork.ts"
import { Room } from "./RoomProtocol.ts"

/** Resumes all unfinished memberships, in the background. */
export const finishMemberships = Effect.gen(function* () {
  const room = yield* Room.client
  const rooms = yield* RoomStore
  const store = yield* UnfinishedMembershipStore

  /** Resumes a join. If that is refused, servers that accepted the join get a leave of the user. */
  const finish = Effect.fnUntraced(function* ({ content, membership, roomId, servers, userId }: UnfinishedMembership) {
    const known = yield* rooms.membership(userId, roomId)
    if (Option.isSome(known) && known.value.membership === "join") return yield* store.remove(roomId, userId)
    const reason = membership === "leave" && typeof content.reason === "string" ? { reason: content.reason } : {}
    const leave = ask(room(roomId).LeaveRemotely({ userId, servers, ...reason }))
    if (membership === "leave") return yield* leave
    const join = ask(room(roomId).JoinRemotely({ userId, content, servers }))
    if (Result.isFailure(yield* outcomeOf(`The join of ${userId} in ${roomId}`, join))) yield* leave
  })

  yield* keepFinishing({
    name: "Finishing memberships",
    kind: "unfinished memberships",
    table: store,
    whenNodesChange: "all",
    nameOf: ({ membership, roomId, userId }) => `The ${membership} of ${userId} in ${roomId}`,
    finish
  })
})
