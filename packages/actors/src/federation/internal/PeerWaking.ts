/**
 * Wakes the `Peer` actors of destinations. Each runs until nothing waits for its destination, or until the destination cannot be
 * reached; it runs again when its back-off is over, by a timer in memory.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { setNewest } from "@greenroom/store/BoundedMap"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { keepRunning } from "@greenroom/store/Supervision"
import { Cause, Effect, type Fiber, Queue, Semaphore } from "effect"
import { makeDeadlines } from "../../runtime/Deadlines.ts"
import { isOfUnavailableNode } from "../../runtime/NodeUnavailable.ts"
import { makeSampled } from "../../runtime/Sampling.ts"
import { Peer } from "../PeerProtocol.ts"
import type { EduContent } from "../PendingEdus.ts"

/**
 * How many destinations are sent to at once, and how many of those whose last attempt ended in a back-off: they may stay silent, and must
 * not hold up the others.
 */
const concurrentDestinations = 512
const concurrentFailing = 128

/** How many destinations are remembered whose last attempt ended in a back-off. */
const maxFailing = 10_000

/** The retry delay of a destination whose actor failed, in milliseconds. */
const retryAfter = 30_000

/** The time for which a node remembers a back-off, in milliseconds: another node may have ended it. */
const trustBackoff = 10_000

export const makePeerWaking = Effect.gen(function* () {
  const scope = yield* Effect.scope
  const actor = yield* Peer.client
  const sampled = yield* makeSampled
  const permits = Semaphore.makeUnsafe(concurrentDestinations)
  const permitsOfFailing = Semaphore.makeUnsafe(concurrentFailing)
  /** Destinations whose last attempt ended in a back-off. */
  const failing = new Map<ServerName, true>()

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
    const { backoff } = yield* sampled("federation.send", { kind: "producer", attributes }, actor(destination).Drain())
    const now = yield* monotonicMillis
    wakeAt(destination, backoff > 0 ? now + backoff : undefined)
    if (backoff > 0) {
      setNewest(failing, destination, true, maxFailing)
      backoffs.set(destination, now + Math.min(backoff, trustBackoff))
    } else {
      failing.delete(destination)
      backoffs.delete(destination)
    }
  })

  const drainInTurn = (destination: ServerName) =>
    Effect.suspend(() => (failing.has(destination) ? permitsOfFailing : permits).withPermit(drain(destination)))

  /** An actor that moves to another node, or goes down with this one while it waits for the destination, is no failure. */
  const logFailure = (destination: ServerName, cause: Cause.Cause<unknown>) =>
    Cause.hasInterruptsOnly(cause) || isOfUnavailableNode(cause)
      ? Effect.void
      : Effect.logError(`The Peer actor of ${destination} failed: nothing is sent now`, cause)

  const drainOrBackOff = (destination: ServerName) =>
    Effect.catchCause(drainInTurn(destination), (cause) =>
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

  yield* keepRunning("Waking destinations whose wait is over", Effect.flatMap(Queue.take(due), resume))

  const queueEdus = Effect.fnUntraced(function* (destination: ServerName, edus: ReadonlyArray<EduContent>) {
    if (edus.length === 0 || isBackedOff(destination, yield* monotonicMillis)) return
    yield* notify(destination, (peer) => peer.QueueEdus({ edus }, { discard: true }))
  })

  /** The destination can be reached: what waits for it is sent now. */
  const endBackoff = Effect.fnUntraced(function* (destination: ServerName) {
    backoffs.delete(destination)
    const resumed = Effect.andThen(actor(destination).HeardFrom(), wakePeer(destination))
    yield* Effect.forkIn(
      Effect.catchCause(resumed, (cause) => logFailure(destination, cause)),
      scope
    )
  })

  /** Removes those that are over at a time of the monotonic clock. */
  const forgetBackoffs = (now: number) => {
    for (const [destination, until] of backoffs) if (until <= now) backoffs.delete(destination)
  }

  return { wake, wakeAt, resume, wakeForReceipts, queueEdus, endBackoff, forgetBackoffs }
})
