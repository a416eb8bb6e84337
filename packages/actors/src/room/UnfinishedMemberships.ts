/**
 * Memberships that the end of a process interrupted between this server and another one are finished or taken back, at the
 * start and when nodes of the cluster came or went. So no user is in a room for other servers and not for their own.
 */
import { RoomStore } from "@greenroom/store/RoomStore"
import { type UnfinishedMembership, UnfinishedMembershipStore } from "@greenroom/store/UnfinishedMembershipStore"
import { Effect, Option } from "effect"
import { ask } from "../runtime/Ask.ts"
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

  /** Resumes a join. If that fails, servers that accepted the join get a leave of the user. */
  const finish = Effect.fnUntraced(function* ({ content, membership, roomId, servers, userId }: UnfinishedMembership) {
    const known = yield* rooms.membership(userId, roomId)
    if (Option.isSome(known) && known.value.membership === "join") return yield* store.remove(roomId, userId)
    const reason = membership === "leave" && typeof content.reason === "string" ? { reason: content.reason } : {}
    const leave = ask(room(roomId).LeaveRemotely({ userId, servers, ...reason }))
    if (membership === "leave") return yield* leave
    yield* Effect.catch(ask(room(roomId).JoinRemotely({ userId, content, servers })), () => leave)
  })

  const finishAll = Effect.flatMap(store.list, (unfinished) =>
    Effect.forEach(
      unfinished,
      (row) =>
        Effect.catchCause(finish(row), (cause) =>
          Effect.logWarning(`The ${row.membership} of ${row.userId} in ${row.roomId} stays unfinished`, cause)
        ),
      { concurrency, discard: true }
    )
  )
  const changed = yield* latchOfChanges(yield* Nodes)
  let isFirst = true
  yield* keepRunningOnce(
    "Finishing memberships that a process left",
    Effect.suspend(() => {
      const wait = isFirst ? Effect.void : changed
      isFirst = false
      return Effect.andThen(wait, finishAll)
    })
  )
})
