/**
 * The Peer actor: one per other home server, its key is the server name. It sends what waits for that server, as
 * transactions: at most 50 PDUs and 100 EDUs each, one at a time. The next one follows the answer to the last, so the
 * other server sets the pace, also when it catches up after a long time away.
 *
 * PDUs wait in the store (`OutgoingStore`), and a transaction with PDUs is stored before it is sent, EDUs included: until it is
 * acknowledged every attempt sends the same ones under the same ID, also after the process was killed and on another node. Typing and presence
 * wait in memory alone (`PendingEdus`); a transaction of these alone is not repeated. Receipts wait in the store
 * (`OutgoingReceiptStore`) until a transaction with them is acknowledged, and may arrive twice.
 *
 * Everything happens under the fence of the actor's shard: a node that was stopped, and whose shards others took meanwhile,
 * sends nothing more.
 *
 * EDUs that must arrive (messages to devices, changes of keys) are stored too (`OutgoingEduStore`), and go in transactions of
 * their own.
 *
 * A transaction that the server refuses is sent again a few times, then PDU by PDU; a PDU that it refuses alone is dropped
 * (`TransactionRefusal`). So no single item stops the queue.
 *
 * `PeerQueue` decides what the next transaction has, `PeerSending` sends it, `PeerAnswers` acts on the answer, and `PeerBackoff` says
 * how long to wait.
 *
 * A server that cannot be reached is in back-off until `Destinations` says otherwise; then typing and presence for it are dropped. A short
 * wait passes in the actor. A long one does not keep it in memory: `Peers` resumes servers whose back-off has ended.
 *
 * Source: "Transactions" of the draft and of the server-server specification.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import type { StaleFence } from "@greenroom/store/ShardFenceStore"
import { Effect, FiberHandle, Result, Semaphore } from "effect"
import { Entity } from "effect/cluster"
import { isOfUnavailableNode } from "../runtime/NodeUnavailable.ts"
import { actorFence, ShardFences } from "../runtime/ShardFences.ts"
import { makePeerAnswers } from "./internal/PeerAnswers.ts"
import { makePeerBackoff } from "./internal/PeerBackoff.ts"
import { makePeerQueue } from "./internal/PeerQueue.ts"
import { makePeerSending } from "./internal/PeerSending.ts"
import { Peer } from "./PeerProtocol.ts"

// --- State ------------------------------------------------------------------------------------------------------------

/** The longest wait that passes in the actor, in milliseconds; it stays in memory for longer than that. */
const longestOwnWait = 60_000

// --- Behaviour --------------------------------------------------------------------------------------------------------

const behaviour = Effect.gen(function* () {
  const destination = (yield* Entity.CurrentAddress).entityId as unknown as ServerName
  const scope = yield* Effect.scope
  const { refused: fenceRefused } = yield* ShardFences
  const fence = yield* actorFence
  const queue = yield* makePeerQueue(destination, fence)
  const sending = yield* makePeerSending(destination, fence)
  const backoff = yield* makePeerBackoff(destination, queue)
  const answers = yield* makePeerAnswers(destination, fence, { queue, sending, backoff })
  const retry = yield* FiberHandle.make()
  const oneAtATime = Semaphore.makeUnsafe(1).withPermits(1)

  /** Another node has taken the shard: this actor sends nothing more. */
  let isReplaced = false
  /** Whether sending in the background was requested and has not begun. */
  let starting = false

  const replaced = Effect.fnUntraced(function* (stale: StaleFence) {
    isReplaced = true
    yield* Effect.logInfo(`Another node sends to ${destination}`)
    yield* fenceRefused(stale.fence)
  })

  /** Resumes sending when a short wait is over. */
  const waitForRetry = (wait: number): Effect.Effect<void> =>
    wait > longestOwnWait
      ? Effect.void
      : Effect.asVoid(FiberHandle.run(retry, Effect.andThen(Effect.sleep(Math.ceil(wait)), start)))

  const sendWaiting: Effect.Effect<void> = Effect.gen(function* () {
    while (!isReplaced) {
      const now = yield* monotonicMillis
      const wait = backoff.restAt(now)
      if (wait > 0) return yield* waitForRetry(wait)
      const outgoing = yield* queue.next(now, answers.isSingle())
      if (outgoing === undefined) return
      const answer = yield* Effect.result(Effect.andThen(backoff.reach(sending.probe), sending.send(outgoing)))
      if (Result.isSuccess(answer)) yield* answers.accepted(outgoing, answer.success)
      else if (answer.failure._tag === "StaleFence") yield* replaced(answer.failure)
      else if (answer.failure._tag === "RemoteUnreachable") yield* backoff.beginUnreachable(answer.failure)
      else yield* answers.refused(outgoing, answer.failure)
    }
  })

  const sendAll = Effect.onError(sendWaiting, () => Effect.sync(queue.noteReceipts))

  /** Sends in the background. */
  const start: Effect.Effect<void> = Effect.suspend(() => {
    if (starting) return Effect.void
    starting = true
    const sendingAll = oneAtATime(
      Effect.suspend(() => {
        starting = false
        return sendAll
      })
    )
    return sendingAll.pipe(
      Effect.catchCause((cause) =>
        isOfUnavailableNode(cause) ? Effect.void : Effect.logError(`Sending to ${destination} failed`, cause)
      ),
      Effect.forkIn(scope),
      Effect.asVoid
    )
  })

  return Peer.of({
    Drain: () =>
      Effect.suspend(() => {
        queue.noteStored()
        return Effect.map(Effect.andThen(oneAtATime(sendAll), monotonicMillis), (now) => ({
          backoff: backoff.restAt(now)
        }))
      }),
    ReceiptsQueued: () =>
      Effect.flatMap(monotonicMillis, (now) => {
        queue.noteReceipts()
        return backoff.restAt(now) > 0 ? Effect.void : start
      }),
    QueueEdus: Effect.fnUntraced(function* ({ payload: { edus } }) {
      const now = yield* monotonicMillis
      if (backoff.restAt(now) > 0) return
      queue.add(edus, now)
      yield* start
    }),
    HeardFrom: () =>
      Effect.suspend(() => {
        backoff.end()
        return start
      })
  })
})

/** Registers the actor with the runner. */
export const layer = Peer.toLayer(behaviour, {
  concurrency: "unbounded",
  maxIdleTime: 2 * longestOwnWait,
  disableFatalDefects: true
})
