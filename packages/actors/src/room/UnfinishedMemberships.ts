/**
 * Memberships that the end of a process interrupted between this server and another one are finished or taken back, at the
 * start and when nodes of the cluster came or went. So no user is in a room for other servers and not for their own.
 */
import { RoomStore } from "@greenroom/store/RoomStore"
import { type UnfinishedMembership, UnfinishedMembershipStore } from "@greenroom/store/UnfinishedMembershipStore"
import { Effect, Option, Result } from "effect"
import { ask } from "../runtime/Ask.ts"
import { handleEach, settled } from "../runtime/ItemFailure.ts"
import { latchOfChanges, Nodes } from "../runtime/Nodes.ts"
import { keepRunningOnce } from "../runtime/Singletons.ts"
import { Room } from "./RoomProtocol.ts"

/** How many rooms are asked for at once. */
const concurrency = 4

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
    if (Result.isFailure(yield* settled(`The join of ${userId} in ${roomId}`, join))) yield* leave
  })

  /** Those whose room is not available now are tried again. */
  const finishOne = Effect.fnUntraced(function* (row: UnfinishedMembership) {
    const what = `The ${row.membership} of ${row.userId} in ${row.roomId}`
    const finished = yield* settled(what, finish(row))
    if (Result.isFailure(finished)) yield* Effect.logWarning(`${what} stays unfinished: ${finished.failure.error}`)
  })
  const finishAll = Effect.flatMap(store.list, (unfinished) => handleEach(unfinished, finishOne, concurrency))
  const changed = yield* latchOfChanges(yield* Nodes)
  yield* keepRunningOnce("Finishing memberships that a process left", Effect.andThen(finishAll, changed))
})
