/**
 * The destinations of outgoing transactions. Wakes their `Peer` actors when events for them were committed, passes them
 * EDUs, and resumes those that waited when a node was lost or whose wait is over.
 *
 * The node that woke an actor wakes it again when the wait is over, by a timer in memory. No queue is read while nothing
 * happens. At the start, and after nodes came or went, one node reads all queues.
 *
 * A destination that cannot be reached costs next to nothing here: while it is in back-off, an event for it is one lookup in
 * a map.
 *
 * Source: "Transactions" of the specification.
 */
import { type ServerName, serverNameOf } from "@greenroom/protocol/Identifiers"
import { plural } from "@greenroom/protocol/Plural"
import type { DestinationState } from "@greenroom/store/DestinationStore"
import { deviceListChanges } from "@greenroom/store/DeviceListStore"
import { EventLog, type LogSlice } from "@greenroom/store/EventLog"
import { rowsOf } from "@greenroom/store/LogKind"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { OutgoingEduStore } from "@greenroom/store/OutgoingEduStore"
import { OutgoingReceiptStore } from "@greenroom/store/OutgoingReceiptStore"
import { OutgoingStore } from "@greenroom/store/OutgoingStore"
import { keepRunning } from "@greenroom/store/Supervision"
import { Cause, Clock, Context, Effect, Fiber, Latch, Layer, Queue, Semaphore } from "effect"
import { makeDeadlines } from "../runtime/Deadlines.ts"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { latchOfChanges, Nodes } from "../runtime/Nodes.ts"
import { makeSampled } from "../runtime/Sampling.ts"
import { keepRunningOnce, periodicallyOnce } from "../runtime/Singletons.ts"
import { Destinations } from "./Destinations.ts"
import { DeviceResyncs } from "./DeviceResyncs.ts"
import { Peer } from "./PeerProtocol.ts"
import type { EduContent } from "./PendingEdus.ts"

/** How many destinations are sent to at once. */
const concurrentDestinations = 512

/** How many destinations that waited are woken at once, and how long each of them may take before the next one. */
const concurrentWakes = 32
const wakeTimeout = "10 seconds"

/** The longest interval between two reads of all queues. */
const sweepInterval = "10 minutes"

/** The retry delay of a destination whose actor failed, in milliseconds. */
const retryAfter = 30_000

/** The time for which EDUs that the database queued itself are gathered. */
const gatherTime = "1 second"

/** The time for which a node remembers a back-off, in milliseconds: another node may have ended it. */
const trustBackoff = 10_000

/**
 * How many PDUs wait for one destination at most, and how often that is looked to. A server that was away for longer finds
 * the gap by the newest ones, and requests the rest.
 */
const longestQueue = 50_000
const trimInterval = "10 minutes"

/** After how many attempts, over two hours, EDUs for a server that was never reached are dropped. */
const maxAttempts = 13

/** How many servers that were never reached are remembered, and for how long after the last attempt, in ms. */
const mostUnreached = 10_000
const unreachedFor = 86_400_000

/** The lifetimes of acknowledged transactions and of waiting receipts, in milliseconds, and how often the former are deleted. */
const keptFor = 7 * 86_400_000
const forgetInterval = "1 hour"

/** The state of a destination, for the operator. Times are milliseconds since 1970. */
export interface DestinationReport {
  readonly destination: ServerName
  /** How many PDUs wait for it. */
  readonly queue_length: number
  /** Attempts in a row that failed. */
  readonly failures: number
  readonly last_attempt_ts?: number
  readonly last_success_ts?: number
  readonly last_error?: string
  /** When it is tried again; absent if it need not be waited for. */
  readonly backoff_until?: number
}

const toReport = (state: DestinationState, queue_length: number, now: number): DestinationReport => {
  const lastAttempt = Math.max(state.lastSuccessAt ?? 0, state.lastFailureAt ?? 0)
  return {
    destination: state.destination,
    queue_length,
    failures: state.failures,
    ...(lastAttempt === 0 ? {} : { last_attempt_ts: lastAttempt }),
    ...(state.lastSuccessAt === undefined ? {} : { last_success_ts: state.lastSuccessAt }),
    ...(state.lastError === undefined ? {} : { last_error: state.lastError }),
    ...(state.retryAt > now ? { backoff_until: state.retryAt } : {})
  }
}

const make = Effect.gen(function* () {
  const scope = yield* Effect.scope
  const actor = yield* Peer.client
  const log = yield* EventLog
  const store = yield* OutgoingStore
  const edus = yield* OutgoingEduStore
  const receipts = yield* OutgoingReceiptStore
  const destinations = yield* Destinations
  const resyncs = yield* DeviceResyncs
  const { serverName } = yield* HomeServerConfig
  const sampled = yield* makeSampled
  const withPermit = Semaphore.makeUnsafe(concurrentDestinations).withPermits(1)

  /** Destinations whose actor is sending; `again` if something was committed since it began. */
  const draining = new Map<ServerName, { again: boolean; readonly fiber: Fiber.Fiber<void> }>()
  /** The times, of the monotonic clock, before which destinations are not contacted. */
  const backoffs = new Map<ServerName, number>()

  const isBackedOff = (destination: ServerName, now: number): boolean => (backoffs.get(destination) ?? 0) > now

  /** Destinations whose wait is over. */
  const due = yield* Queue.unbounded<ServerName>()
  const addDeadline = yield* makeDeadlines
  /** Ends the timer of each destination that waits. */
  const stopWaiting = new Map<ServerName, () => void>()

  /** Wakes the actor of the destination at a time of the monotonic clock; without a time not at all. */
  const wakeAt = (destination: ServerName, time: number | undefined) => {
    stopWaiting.get(destination)?.()
    stopWaiting.delete(destination)
    if (time === undefined) return
    const ring = () => {
      stopWaiting.delete(destination)
      Queue.offerUnsafe(due, destination)
    }
    stopWaiting.set(destination, addDeadline(time, ring))
  }

  const drain = Effect.fnUntraced(function* (destination: ServerName) {
    const attributes = { "federation.destination": destination }
    const { spareFor } = yield* sampled("federation.send", { kind: "producer", attributes }, actor(destination).Drain())
    const now = yield* monotonicMillis
    wakeAt(destination, spareFor > 0 ? now + spareFor : undefined)
    if (spareFor > 0) backoffs.set(destination, now + Math.min(spareFor, trustBackoff))
    else backoffs.delete(destination)
  })

  /** An actor that moves to another node, or goes down with this one, is no failure. */
  const logFailure = (destination: ServerName, cause: Cause.Cause<unknown>) =>
    Cause.hasInterruptsOnly(cause)
      ? Effect.void
      : Effect.logError(`The Peer actor of ${destination} failed: nothing is sent now`, cause)

  const drainOrBackOff = (destination: ServerName) =>
    Effect.catchCause(withPermit(drain(destination)), (cause) =>
      Effect.flatMap(monotonicMillis, (now) => {
        backoffs.set(destination, now + trustBackoff)
        wakeAt(destination, now + retryAfter)
        return logFailure(destination, cause)
      })
    )

  const drainUntilQuiet = (destination: ServerName): Effect.Effect<void> =>
    Effect.andThen(
      drainOrBackOff(destination),
      Effect.flatMap(monotonicMillis, (now) => {
        const current = draining.get(destination)
        if (current?.again === true && !isBackedOff(destination, now)) {
          current.again = false
          return drainUntilQuiet(destination)
        }
        draining.delete(destination)
        return Effect.void
      })
    )

  /** Runs the Peer actor of the destination, whether or not the destination is in back-off. */
  const wakePeer = (destination: ServerName): Effect.Effect<Fiber.Fiber<void>> =>
    Effect.suspend(() => {
      const current = draining.get(destination)
      if (current !== undefined) {
        current.again = true
        return Effect.succeed(current.fiber)
      }
      return Effect.map(Effect.forkIn(drainUntilQuiet(destination), scope), (fiber) => {
        draining.set(destination, { again: false, fiber })
        return fiber
      })
    })

  /** Messages without an answer: their content is stored, or may be lost. */
  const notify = (destination: ServerName, message: (peer: ReturnType<typeof actor>) => Effect.Effect<void, unknown>) =>
    Effect.catchCause(message(actor(destination)), (cause) =>
      Effect.logDebug(`A message to the Peer actor of ${destination} is lost`, cause)
    )

  const notifyOfReceipts = (destination: ServerName) =>
    notify(destination, (peer) => peer.ReceiptsQueued(undefined, { discard: true }))

  /** As `wakePeer`, for a destination whose receipts may wait too. */
  const resume = (destination: ServerName) => Effect.andThen(notifyOfReceipts(destination), wakePeer(destination))

  const wakeForReceipts = (destination: ServerName) =>
    Effect.flatMap(monotonicMillis, (now) =>
      isBackedOff(destination, now) ? Effect.void : notifyOfReceipts(destination)
    )

  const wake = Effect.fnUntraced(function* (woken: Iterable<ServerName>) {
    const now = yield* monotonicMillis
    for (const destination of woken) if (!isBackedOff(destination, now)) yield* wakePeer(destination)
  })

  /** When each destination may be tried for which something waits: milliseconds since 1970. */
  const waitingTimes = Effect.gen(function* () {
    const waiting = yield* Effect.all([store.waiting, edus.waiting, receipts.waiting])
    return new Map(waiting.flat().map(({ destination, retryAt }) => [destination, retryAt]))
  })

  /** All queues: those that are due are sent, the others later. */
  const resumeAll = Effect.gen(function* () {
    const now = yield* monotonicMillis
    for (const [destination, until] of backoffs) if (until <= now) backoffs.delete(destination)
    const times = yield* waitingTimes
    const wallTime = yield* Clock.currentTimeMillis
    for (const [destination, time] of times) if (time > wallTime) wakeAt(destination, now + time - wallTime)
    yield* Effect.forEach(
      Array.from(times).filter(([, time]) => time <= wallTime),
      ([destination]) =>
        Effect.flatMap(resume(destination), (fiber) => Effect.timeoutOption(Fiber.await(fiber), wakeTimeout)),
      { concurrency: concurrentWakes, discard: true }
    )
  })

  yield* keepRunning("Waking destinations with new PDUs", Effect.flatMap(log.awaitOutgoing, wake))
  yield* keepRunning("Waking destinations whose wait is over", Effect.flatMap(Queue.take(due), resume))

  // The database queues EDUs itself where keys of devices change, and for users who enter rooms.
  const edusMayWait = Latch.makeUnsafe(false)
  const mayQueueEdus = ({ memberships, rows }: LogSlice): boolean =>
    rowsOf(rows, deviceListChanges).length > 0 ||
    memberships.some(({ membership, userId }) => membership === "join" && serverNameOf(userId) === serverName)
  yield* log.follow((slice) =>
    Effect.sync(() => {
      if (mayQueueEdus(slice)) edusMayWait.openUnsafe()
    })
  )
  const wakeForEdus = Effect.flatMap(edus.waiting, (waiting) => wake(waiting.map(({ destination }) => destination)))
  const wakeForQueued = Effect.gen(function* () {
    yield* edusMayWait.await
    yield* Effect.sleep(gatherTime)
    edusMayWait.closeUnsafe()
    yield* wakeForEdus
  })
  yield* keepRunningOnce("Waking destinations with new EDUs", wakeForQueued)

  const nodesChanged = yield* latchOfChanges(yield* Nodes)
  yield* keepRunningOnce(
    "Waking destinations that others left",
    Effect.andThen(resumeAll, Effect.timeoutOption(nodesChanged, sweepInterval))
  )
  const forget = Effect.flatMap(Clock.currentTimeMillis, (now) => store.forget(now - keptFor))
  yield* periodicallyOnce("Deleting acknowledged transactions", forgetInterval, forget, { atOnce: true })

  const trimEdus = Effect.flatMap(edus.trim(longestQueue, maxAttempts), (dropped) =>
    dropped === 0
      ? Effect.void
      : Effect.logWarning(`Dropped ${plural(dropped, "EDU")} for servers that were away too long`)
  )
  yield* periodicallyOnce("Trimming queues of EDUs", trimInterval, trimEdus)

  const forgetUnreached = Effect.flatMap(Clock.currentTimeMillis, (now) =>
    destinations.forgetUnreached(now - unreachedFor, mostUnreached)
  )
  yield* periodicallyOnce("Forgetting servers that were never reached", trimInterval, forgetUnreached)

  const trimReceipts = Effect.flatMap(Clock.currentTimeMillis, (now) => receipts.trim(now - keptFor))
  yield* periodicallyOnce("Trimming queues of receipts", trimInterval, trimReceipts)

  const trim = Effect.flatMap(store.trim(longestQueue), (dropped) =>
    Effect.forEach(
      dropped,
      ([destination, count]) =>
        Effect.logWarning(`${destination} has been away too long: dropped ${plural(count, "PDU")}`),
      { discard: true }
    )
  )
  yield* periodicallyOnce("Trimming queues to other servers", trimInterval, trim, { atOnce: true })

  const queueEdus = Effect.fnUntraced(function* (destination: ServerName, edus: ReadonlyArray<EduContent>) {
    if (edus.length === 0 || isBackedOff(destination, yield* monotonicMillis)) return
    yield* notify(destination, (peer) => peer.Tell({ edus }, { discard: true }))
  })

  const heardFrom = Effect.fnUntraced(function* (origin: ServerName) {
    if (!(yield* destinations.heardFrom(origin))) return
    backoffs.delete(origin)
    yield* resyncs.plan(origin, yield* Clock.currentTimeMillis)
    const resumed = Effect.andThen(actor(origin).HeardFrom(), wakePeer(origin))
    yield* Effect.forkIn(
      Effect.catchCause(resumed, (cause) => logFailure(origin, cause)),
      scope
    )
  })

  const list = Effect.gen(function* () {
    const [states, lengths] = yield* Effect.all([destinations.list, store.queueLengths], { concurrency: 2 })
    const now = yield* Clock.currentTimeMillis
    const tried = states.map((state) => toReport(state, lengths.get(state.destination) ?? 0, now))
    const known = new Set(states.map(({ destination }) => destination))
    const untried = Array.from(lengths).filter(([destination]) => !known.has(destination))
    return [...tried, ...untried.map(([destination, queue_length]) => ({ destination, queue_length, failures: 0 }))]
  })

  return Peers.of({ wake, wakeForEdus, wakeForReceipts, queueEdus, heardFrom, list })
})

/** The `Peer` actors of all destinations: wakes them and hands them EDUs. */
export class Peers extends Context.Service<
  Peers,
  {
    /** Notifies the destinations that events wait for them. Does not wait until they are sent. */
    readonly wake: (destinations: Iterable<ServerName>) => Effect.Effect<void>
    /** EDUs that must arrive were stored (`OutgoingEduStore`). Does not wait until they are sent. */
    readonly wakeForEdus: Effect.Effect<void>
    /** Receipts for the server were queued (`OutgoingReceiptStore`). Does not wait until they are sent. */
    readonly wakeForReceipts: (destination: ServerName) => Effect.Effect<void>
    /** EDUs for a server; dropped if it cannot be reached. */
    readonly queueEdus: (destination: ServerName, edus: ReadonlyArray<EduContent>) => Effect.Effect<void>
    /** A server has made a request: if it was in back-off, what waits for it is sent now. */
    readonly heardFrom: (origin: ServerName) => Effect.Effect<void>
    /** Every server that we tried to reach or that something waits for. */
    readonly list: Effect.Effect<ReadonlyArray<DestinationReport>>
  }
>()("greenroom/actors/federation/Peers") {
  static readonly layer = Layer.effect(Peers, make)
}
