/**
 * The Peer actor: one per other home server, its key is the server name. It sends what waits for that server, as
 * transactions: at most 50 PDUs and 100 EDUs each, one at a time. The next one follows the answer to the last, so the
 * other server sets the pace, also when it catches up after a long time away.
 *
 * PDUs wait in the store (`OutgoingStore`), and a transaction with PDUs is stored as it will be sent, EDUs included: until
 * it is acknowledged every attempt sends the same bytes, also after the process was killed and on another node. Typing and presence
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
 * `PeerQueue` decides what the next transaction has, `PeerSending` sends it.
 *
 * A server that cannot be reached is in back-off until `Destinations` says otherwise; then typing and presence for it are dropped. A short
 * wait passes in the actor. A long one does not keep it in memory: `Peers` resumes servers whose back-off has ended.
 *
 * Source: "Transactions" of the specification.
 */
import type { TransactionAnswer } from "@greenroom/protocol/federation/Transaction"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { OutgoingEduStore } from "@greenroom/store/OutgoingEduStore"
import { OutgoingStore, type StoredTransaction } from "@greenroom/store/OutgoingStore"
import type { StaleFence } from "@greenroom/store/ShardFenceStore"
import { Clock, Effect, FiberHandle, Random, Result, Semaphore } from "effect"
import { Entity } from "effect/cluster"
import { isOfUnavailableNode } from "../runtime/NodeUnavailable.ts"
import { actorFence, ShardFences } from "../runtime/ShardFences.ts"
import { Destinations } from "./Destinations.ts"
import { makePeerQueue, type Outgoing } from "./internal/PeerQueue.ts"
import { makePeerSending } from "./internal/PeerSending.ts"
import { Peer } from "./PeerProtocol.ts"
import type { RemoteInvalid, RemoteRefused, RemoteUnreachable } from "./RemoteError.ts"
import { refusalsUntilFinal, waitAfterRefusal } from "./TransactionRefusal.ts"

// --- State ------------------------------------------------------------------------------------------------------------

/** The longest wait that passes in the actor, in milliseconds; it stays in memory for longer than that. */
const longestOwnWait = 60_000

/** The shortest wait after a failure, in milliseconds. */
const shortestWait = 500

const reasonOf = (error: RemoteRefused | RemoteInvalid): string =>
  error._tag === "RemoteRefused" ? `${error.status} ${error.errcode}: ${error.error}` : error.reason

const refusedPdus = ({ pdus }: TransactionAnswer): ReadonlyArray<string> =>
  Object.entries(pdus).flatMap(([name, { error }]) => (error === undefined ? [] : [`${name}: ${error}`]))

// --- Behaviour --------------------------------------------------------------------------------------------------------

const behaviour = Effect.gen(function* () {
  const destination = (yield* Entity.CurrentAddress).entityId as unknown as ServerName
  const scope = yield* Effect.scope
  const store = yield* OutgoingStore
  const eduStore = yield* OutgoingEduStore
  const destinations = yield* Destinations
  const { refused: fenceRefused } = yield* ShardFences
  const fence = yield* actorFence
  const queue = yield* makePeerQueue(destination, fence)
  const sending = yield* makePeerSending(destination, fence)
  const retry = yield* FiberHandle.make()
  const oneAtATime = Semaphore.makeUnsafe(1).withPermits(1)

  /** Another node has taken the shard: this actor sends nothing more. */
  let isReplaced = false

  /** The remaining back-off of the server, as all nodes know it, in ms; 0 without one. */
  const sharedBackoff = Effect.matchEffect(destinations.check(destination), {
    onSuccess: () => Effect.succeed(0),
    onFailure: ({ retryAt = 0 }) => remaining(retryAt)
  })
  const remaining = (until: number) => Effect.map(Clock.currentTimeMillis, (now) => Math.max(0, until - now))
  const initialBackoff = yield* sharedBackoff
  /** The end of the back-off, by the monotonic clock. */
  let backoffUntil = initialBackoff === 0 ? 0 : (yield* monotonicMillis) + initialBackoff
  /** Whether the last attempt reached no server. */
  let unreachable = initialBackoff > 0
  /** How many attempts in a row the server has answered with an error. */
  let refusals = 0
  /** How many of the next PDUs are sent one by one, because a transaction with them was refused. */
  let singly = 0

  // Sending

  /** Shows that a server is there that was not: nothing is signed for an unreachable one. */
  const reach = Effect.suspend(() =>
    unreachable
      ? Effect.map(sending.probe, () => {
          unreachable = false
        })
      : Effect.void
  )

  /** The PDUs of the transaction wait no longer. */
  const settle = Effect.fnUntraced(function* ({ events, transactionId }: StoredTransaction) {
    singly = Math.max(0, singly - events.length)
    yield* store.acknowledge(destination, transactionId)
  })

  const acknowledged = Effect.fnUntraced(function* (stored: StoredTransaction, answer: TransactionAnswer) {
    yield* settle(stored)
    const refused = refusedPdus(answer)
    if (refused.length > 0)
      yield* Effect.logWarning(`${destination} did not take ${refused.join("; ").slice(0, 2_000)}`)
  })

  /** The server is left alone for so many ms, and typing and presence for it are dropped. */
  const backOffFor = (duration: number) =>
    Effect.map(monotonicMillis, (now) => {
      queue.drop()
      // Commits and receipts during this time do not wake this actor.
      queue.noteAll()
      backoffUntil = now + duration
    })

  /** Resumes sending when a short wait is over. */
  const waitForRetry = (now: number): Effect.Effect<void> => {
    const wait = Math.ceil(backoffUntil - now)
    if (wait > longestOwnWait) return Effect.void
    return Effect.asVoid(FiberHandle.run(retry, Effect.andThen(Effect.sleep(wait), start)))
  }

  /** `Destinations` has logged the reason, and knows the end of the back-off for all nodes. */
  const unreached = Effect.fnUntraced(function* ({ retryAt }: RemoteUnreachable) {
    unreachable = true
    const wait = retryAt === undefined ? yield* sharedBackoff : yield* remaining(retryAt)
    yield* backOffFor(Math.max(wait, shortestWait))
  })

  /** The transaction will not be taken as it is: its PDUs go one by one, and the only PDU of one is dropped. */
  const giveUp = Effect.fnUntraced(function* (stored: StoredTransaction, reason: string) {
    const [first, ...others] = stored.events
    const mayHaveEdus = singly === 0 && !sending.hasNoEdus(stored.transactionId)
    if (others.length > 0 || mayHaveEdus) {
      singly = Math.max(singly, stored.events.length)
      yield* store.reduce(destination, stored.transactionId, fence)
      return yield* Effect.logWarning(`${destination} refuses a transaction, its PDUs are sent one by one: ${reason}`)
    }
    yield* settle(stored)
    yield* Effect.logError(`${destination} refuses ${first?.event_id ?? "a PDU"}, it is dropped: ${reason}`)
  })

  /** A server that answers with errors can be reached: its back-off is known here alone. */
  const refused = Effect.fnUntraced(function* (
    { durable, receipts, stored }: Outgoing,
    error: RemoteRefused | RemoteInvalid
  ) {
    const unstored = durable === undefined && receipts.receipts.length === 0 ? 1 : refusals + 1
    const count = stored === undefined ? unstored : yield* store.refused(destination, stored.transactionId)
    const isFinal = count >= refusalsUntilFinal(error)
    queue.noteAll()
    if (isFinal && stored === undefined && (durable !== undefined || receipts.receipts.length > 0)) {
      if (durable !== undefined) yield* eduStore.remove(destination, durable.transactionId)
      yield* queue.settleReceipts(receipts)
      yield* Effect.logError(`${destination} refuses EDUs, they are dropped: ${reasonOf(error)}`)
    }
    if (!isFinal || stored === undefined) {
      yield* Effect.logWarning(`${destination} refuses a transaction: ${reasonOf(error)}`)
    } else yield* giveUp(stored, reasonOf(error))
    const asked = error._tag === "RemoteRefused" ? error.retryAfter : undefined
    const wait = waitAfterRefusal(++refusals, isFinal, yield* Random.next, asked)
    if (wait > 0) yield* backOffFor(wait)
  })

  const replaced = Effect.fnUntraced(function* (stale: StaleFence) {
    isReplaced = true
    yield* Effect.logInfo(`Another node sends to ${destination}`)
    yield* fenceRefused(stale.fence)
  })

  const done = Effect.fnUntraced(function* (
    { durable, edus, receipts, stored }: Outgoing,
    answer: TransactionAnswer | undefined
  ) {
    // Another transaction was in flight: the EDUs go with the next one.
    if (answer === undefined) {
      const lost = edus.filter(({ edu_type }) => edu_type !== "m.receipt")
      queue.add(lost, yield* monotonicMillis)
      queue.noteReceipts()
      return
    }
    refusals = 0
    yield* queue.settleReceipts(receipts)
    if (durable !== undefined) yield* eduStore.remove(destination, durable.transactionId)
    if (stored !== undefined) yield* acknowledged(stored, answer)
  })

  const sendWaiting: Effect.Effect<void> = Effect.gen(function* () {
    while (!isReplaced) {
      const now = yield* monotonicMillis
      if (now < backoffUntil) return yield* waitForRetry(now)
      const outgoing = yield* queue.next(now, singly > 0)
      if (outgoing === undefined) return
      const answer = yield* Effect.result(Effect.andThen(reach, sending.send(outgoing)))
      if (Result.isSuccess(answer)) yield* done(outgoing, answer.success)
      else if (answer.failure._tag === "StaleFence") yield* replaced(answer.failure)
      else if (answer.failure._tag === "RemoteUnreachable") yield* unreached(answer.failure)
      else yield* refused(outgoing, answer.failure)
    }
  })

  const sendAll = Effect.onError(sendWaiting, () => Effect.sync(queue.noteReceipts))

  let starting = false

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
          spareFor: Math.max(0, backoffUntil - now)
        }))
      }),
    ReceiptsQueued: () =>
      Effect.flatMap(monotonicMillis, (now) => {
        queue.noteReceipts()
        return now < backoffUntil ? Effect.void : start
      }),
    Tell: Effect.fnUntraced(function* ({ payload: { edus } }) {
      const now = yield* monotonicMillis
      if (now < backoffUntil) return
      queue.add(edus, now)
      yield* start
    }),
    HeardFrom: () =>
      Effect.suspend(() => {
        backoffUntil = 0
        queue.noteAll()
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
