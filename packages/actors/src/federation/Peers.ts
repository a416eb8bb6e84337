/**
 * The destinations of outgoing transactions. Wakes their `Peer` actors when events for them were committed, passes them
 * EDUs, and resumes those that waited when the process ended or whose long wait is over.
 *
 * A destination that cannot be reached costs next to nothing here: while it is in back-off, an event for it is one look into
 * a map.
 *
 * Source: "Transactions" of the specification.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { plural } from "@greenroom/protocol/Plural"
import type { DestinationState } from "@greenroom/store/DestinationStore"
import { EventLog } from "@greenroom/store/EventLog"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { OutgoingEduStore } from "@greenroom/store/OutgoingEduStore"
import { OutgoingStore } from "@greenroom/store/OutgoingStore"
import { Cause, Clock, Context, Effect, Fiber, Layer, Result, Semaphore } from "effect"
import { makeSampled } from "../runtime/Sampling.ts"
import { periodicallyOnce } from "../runtime/Singletons.ts"
import { keepRunning } from "../runtime/Supervision.ts"
import { Destinations } from "./Destinations.ts"
import { DeviceResyncs } from "./DeviceResyncs.ts"
import { Peer } from "./PeerProtocol.ts"
import type { EduContent } from "./PendingEdus.ts"

/** How many destinations are sent to at once. */
const concurrentDestinations = 512

/** How many destinations that waited are woken at once, and how long each of them may take before the next one. */
const concurrentWakes = 32
const wakeTimeout = "10 seconds"

/** How often destinations are looked for whose wait is over. */
const sweepInterval = "30 seconds"

/** For how long a node trusts that a back-off lasts, in milliseconds: another node may have ended it. */
const trustBackoff = 10_000

/**
 * How many PDUs wait for one destination at most, and how often that is looked to. A server that was away for longer finds
 * the gap by the newest ones, and asks for what it wants of the rest.
 */
const longestQueue = 50_000
const trimInterval = "5 minutes"

/** For how long acknowledged transactions are kept, in milliseconds, and how often older ones are forgotten. */
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
  /** When it is tried again; absent where it need not be waited for. */
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
  const destinations = yield* Destinations
  const resyncs = yield* DeviceResyncs
  const sampled = yield* makeSampled
  const withPermit = Semaphore.makeUnsafe(concurrentDestinations).withPermits(1)

  /** Destinations whose actor sends now; `again` if something was committed meanwhile. */
  const draining = new Map<ServerName, { again: boolean; readonly fiber: Fiber.Fiber<void> }>()
  /** Until when destinations are to be left alone, by the monotonic clock. */
  const backoffs = new Map<ServerName, number>()

  const isBackedOff = (destination: ServerName, now: number): boolean => (backoffs.get(destination) ?? 0) > now

  const drain = Effect.fnUntraced(function* (destination: ServerName) {
    const attributes = { "federation.destination": destination }
    const { spareFor } = yield* sampled("federation.send", { kind: "producer", attributes }, actor(destination).Drain())
    if (spareFor > 0) backoffs.set(destination, (yield* monotonicMillis) + Math.min(spareFor, trustBackoff))
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

  const wake = Effect.fnUntraced(function* (woken: Iterable<ServerName>) {
    const now = yield* monotonicMillis
    for (const destination of woken) if (!isBackedOff(destination, now)) yield* wakePeer(destination)
  })

  /** Queues that are due: at the start, after a long wait, and those that another node left behind. */
  const sweep = Effect.gen(function* () {
    const now = yield* monotonicMillis
    for (const [destination, until] of backoffs) if (until <= now) backoffs.delete(destination)
    const waiting = new Set(yield* store.waiting(yield* Clock.currentTimeMillis))
    for (const destination of yield* edus.waiting) {
      if (Result.isSuccess(yield* Effect.result(destinations.check(destination)))) waiting.add(destination)
    }
    yield* Effect.forEach(
      waiting,
      (destination) =>
        Effect.flatMap(wakePeer(destination), (fiber) => Effect.timeoutOption(Fiber.await(fiber), wakeTimeout)),
      { concurrency: concurrentWakes, discard: true }
    )
  })

  yield* keepRunning("Waking destinations with new PDUs", Effect.flatMap(log.awaitOutgoing, wake))
  yield* periodicallyOnce("Waking destinations with waiting PDUs", sweepInterval, sweep, { atOnce: true })
  const forget = Effect.flatMap(Clock.currentTimeMillis, (now) => store.forget(now - keptFor))
  yield* periodicallyOnce("Deleting acknowledged transactions", forgetInterval, forget, { atOnce: true })

  const trimEdus = Effect.flatMap(edus.trim(longestQueue), (dropped) =>
    dropped === 0
      ? Effect.void
      : Effect.logWarning(`Dropped ${plural(dropped, "EDU")} for servers that were away too long`)
  )
  yield* periodicallyOnce("Trimming queues of EDUs", trimInterval, trimEdus)

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
    yield* actor(destination)
      .Tell({ edus }, { discard: true })
      .pipe(Effect.catchCause((cause) => Effect.logDebug(`EDUs for ${destination} are dropped`, cause)))
  })

  const heardFrom = Effect.fnUntraced(function* (origin: ServerName) {
    if (!(yield* destinations.heardFrom(origin))) return
    backoffs.delete(origin)
    yield* resyncs.plan(origin, yield* Clock.currentTimeMillis)
    yield* Effect.orDie(actor(origin).HeardFrom(undefined, { discard: true }))
  })

  const list = Effect.gen(function* () {
    const [states, lengths] = yield* Effect.all([destinations.list, store.queueLengths], { concurrency: 2 })
    const now = yield* Clock.currentTimeMillis
    const tried = states.map((state) => toReport(state, lengths.get(state.destination) ?? 0, now))
    const known = new Set(states.map(({ destination }) => destination))
    const untried = Array.from(lengths).filter(([destination]) => !known.has(destination))
    return [...tried, ...untried.map(([destination, queue_length]) => ({ destination, queue_length, failures: 0 }))]
  })

  return Peers.of({ wake, wakeForEdus: Effect.flatMap(edus.waiting, wake), queueEdus, heardFrom, list })
})

export class Peers extends Context.Service<
  Peers,
  {
    /** Notifies the destinations that events wait for them. Does not wait until they are sent. */
    readonly wake: (destinations: Iterable<ServerName>) => Effect.Effect<void>
    /** EDUs that must arrive were stored (`OutgoingEduStore`). Does not wait until they are sent. */
    readonly wakeForEdus: Effect.Effect<void>
    /** EDUs for a server; dropped where it cannot be reached. */
    readonly queueEdus: (destination: ServerName, edus: ReadonlyArray<EduContent>) => Effect.Effect<void>
    /** A server has made a request: if it was in back-off, what waits for it is sent now. */
    readonly heardFrom: (origin: ServerName) => Effect.Effect<void>
    /** Every server that we tried to reach or that something waits for. */
    readonly list: Effect.Effect<ReadonlyArray<DestinationReport>>
  }
>()("greenroom/actors/federation/Peers") {
  static readonly layer = Layer.effect(Peers, make)
}
