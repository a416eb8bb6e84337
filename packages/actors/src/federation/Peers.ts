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
 * Source: "Transactions" of the draft and of the server-server specification.
 */
import { type ServerName, serverNameOf } from "@greenroom/protocol/Identifiers"
import { banChanges } from "@greenroom/store/BanStore"
import type { DestinationState } from "@greenroom/store/DestinationStore"
import { deviceListChanges } from "@greenroom/store/DeviceListStore"
import { EventLog, type LogSlice } from "@greenroom/store/EventLog"
import { rowsOf } from "@greenroom/store/LogKind"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { OutgoingEduStore } from "@greenroom/store/OutgoingEduStore"
import { OutgoingReceiptStore } from "@greenroom/store/OutgoingReceiptStore"
import { OutgoingStore } from "@greenroom/store/OutgoingStore"
import { keepRunning } from "@greenroom/store/Supervision"
import { Clock, Context, Effect, Fiber, Latch, Layer } from "effect"
import { HomeServerConfig } from "../runtime/HomeServerConfig.ts"
import { latchOfChanges, Nodes } from "../runtime/Nodes.ts"
import { keepRunningOnce } from "../runtime/Singletons.ts"
import { Destinations } from "./Destinations.ts"
import { DeviceResyncs } from "./DeviceResyncs.ts"
import { makePeerWaking } from "./internal/PeerWaking.ts"
import { expireQueues } from "./internal/QueueExpiry.ts"
import type { EduContent } from "./PendingEdus.ts"

/** How many destinations that waited are woken at once, and how long each of them may take before the next one. */
const concurrentWakes = 32
const wakeTimeout = "10 seconds"

/** The longest interval between two reads of all queues. */
const sweepInterval = "10 minutes"

/** The time for which EDUs that the database queued itself are gathered. */
const gatherTime = "500 millis"

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
  const log = yield* EventLog
  const store = yield* OutgoingStore
  const edus = yield* OutgoingEduStore
  const receipts = yield* OutgoingReceiptStore
  const destinations = yield* Destinations
  const resyncs = yield* DeviceResyncs
  const { serverName } = yield* HomeServerConfig
  const waking = yield* makePeerWaking
  const { wake } = waking
  yield* expireQueues

  /** When each destination may be tried for which something waits: milliseconds since 1970. */
  const waitingTimes = Effect.gen(function* () {
    const waiting = yield* Effect.all([store.waiting, edus.waiting, receipts.waiting])
    return new Map(waiting.flat().map(({ destination, retryAt }) => [destination, retryAt]))
  })

  /** All queues: those that are due are sent, the others later. */
  const resumeAll = Effect.gen(function* () {
    const now = yield* monotonicMillis
    waking.forgetBackoffs(now)
    const times = yield* waitingTimes
    const wallTime = yield* Clock.currentTimeMillis
    for (const [destination, time] of times) if (time > wallTime) waking.wakeAt(destination, now + time - wallTime)
    yield* Effect.forEach(
      Array.from(times).filter(([, time]) => time <= wallTime),
      ([destination]) =>
        Effect.flatMap(waking.resume(destination), (fiber) => Effect.timeoutOption(Fiber.await(fiber), wakeTimeout)),
      { concurrency: concurrentWakes, discard: true }
    )
  })

  yield* keepRunning("Waking destinations with new PDUs", Effect.flatMap(log.awaitOutgoing, wake))

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

  const heardFrom = Effect.fnUntraced(function* (origin: ServerName) {
    if (!(yield* destinations.heardFrom(origin))) return
    yield* resyncs.plan(origin, yield* Clock.currentTimeMillis)
    yield* waking.endBackoff(origin)
  })

  // A banned server counted as one that cannot be reached. The log waits for its consumers.
  const scope = yield* Effect.scope
  yield* log.follow(({ rows }) =>
    Effect.forEach(
      rowsOf(rows, banChanges).flatMap(({ row: { active, kind, value } }) =>
        kind === "server" && !active ? [value as ServerName] : []
      ),
      (server) => Effect.forkIn(heardFrom(server), scope),
      { discard: true }
    )
  )

  const list = Effect.gen(function* () {
    const [states, lengths] = yield* Effect.all([destinations.list, store.queueLengths], { concurrency: 2 })
    const now = yield* Clock.currentTimeMillis
    const tried = states.map((state) => toReport(state, lengths.get(state.destination) ?? 0, now))
    const known = new Set(states.map(({ destination }) => destination))
    const untried = Array.from(lengths).filter(([destination]) => !known.has(destination))
    return [...tried, ...untried.map(([destination, queue_length]) => ({ destination, queue_length, failures: 0 }))]
  })

  const { queueEdus, wakeForReceipts } = waking
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
