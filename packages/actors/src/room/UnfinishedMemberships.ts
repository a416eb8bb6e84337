/**
 * Finishes or takes back memberships that are in progress between this server and another one: those that the end of a process or an
 * outage of the database has interrupted, and leaves that no server has accepted yet. So no user is in a room for other servers
 * and not for their own.
 *
 * All are tried at the start and when nodes of the cluster came or went, and each again after a wait that grows.
 */
import { RoomStore } from "@greenroom/store/RoomStore"
import { type UnfinishedMembership, UnfinishedMembershipStore } from "@greenroom/store/UnfinishedMembershipStore"
import { Clock, Effect, Option, Result } from "effect"
import { ask } from "../runtime/Ask.ts"
import { handleEach, settled } from "../runtime/ItemFailure.ts"
import { latchOfChanges, Nodes } from "../runtime/Nodes.ts"
import { keepRunningOnce } from "../runtime/Singletons.ts"
import { signalsOfWork } from "../runtime/WorkSignals.ts"
import { Room } from "./RoomProtocol.ts"

/** How many rooms are asked for at once. */
const concurrency = 4

/** The shortest and the longest wait between two looks for those that are due, in ms. Joins that are added signal no work. */
const shortestWait = 1_000
const longestWait = 10 * 60_000

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
  const finishThose = (which: "due" | "all") =>
    Effect.flatMap(store.take(which), (unfinished) => handleEach(unfinished, finishOne, concurrency))

  const changed = yield* latchOfChanges(yield* Nodes)
  const added = yield* signalsOfWork("unfinished memberships")
  const nextIsDue = Effect.gen(function* () {
    const next = yield* store.nextAt
    const now = yield* Clock.currentTimeMillis
    yield* Effect.sleep(Math.min(longestWait, Math.max(shortestWait, (next ?? Number.POSITIVE_INFINITY) - now)))
  })
  let which: "due" | "all" = "all"
  const step = Effect.gen(function* () {
    yield* finishThose(which)
    which = yield* Effect.raceFirst(
      Effect.as(changed, "all" as const),
      Effect.as(Effect.raceFirst(added, nextIsDue), "due" as const)
    )
  })
  yield* keepRunningOnce("Finishing memberships", step)
})
