/**
 * The one reader of the log on this node. When it is woken it reads the rows after its position and passes each slice to the
 * consumers, one after the other.
 *
 * A wake-up names a transaction. While an older transaction is running the low watermark stays below it, and the end of
 * that transaction sends no wake-up; so the follower reads again, with back-off, until the watermark has passed.
 */
import { setTimeout as pauseFor } from "node:timers/promises"
import { Clock, Effect, Latch, type Scope } from "effect"
import type { LogSlice } from "../LogSlice.ts"
import { monotonicMillisUnsafe } from "../MonotonicClock.ts"
import { comparePositions, endOfTransaction, type StreamPosition } from "../StreamToken.ts"
import { keepRunning, untilSuccess } from "../Supervision.ts"

/** How many rows of a kind are read at once: events have up to 64 KiB each. */
const sliceSize = 250
/** How long to wait before reading again while the watermark lags, at first and at most, in ms. */
const firstPause = 1
const longestPause = 50
/** How long to wait after reading, or a consumer, has failed. */
const retryInterval = "1 second"

type Consumer = (slice: LogSlice) => Effect.Effect<void>

export interface LogFollower {
  /** Wakes the follower: there are rows of this transaction, or, without a number, there may be rows. Never waits. */
  readonly wake: (xid?: number) => void
  /**
   * The next read begins after the last row. After a crash PostgreSQL gives the numbers of lost transactions again, but never that of a
   * transaction that wrote a row of the log: these wait for the disk.
   */
  readonly rereadAfterLast: () => void
  /** Hands all slices from here on to the consumer, until the scope closes. Returns the position where they begin. */
  readonly follow: (consumer: Consumer) => Effect.Effect<StreamPosition, never, Scope.Scope>
  /** The position of the last row that was read; consumers have it, or are about to get it. */
  readonly position: () => StreamPosition
  /** Whether the consumers have had everything that a transaction wrote. */
  readonly hasReached: (xid: number) => boolean
  /** Waits until the consumers have had everything up to the end of a transaction. */
  readonly reached: (xid: number) => Effect.Effect<void>
  /** For how many milliseconds there has been something that could not be read yet. */
  readonly lagNow: () => number
}

interface Waiter {
  readonly xid: number
  readonly resume: () => void
}

/** `start`: the last row below the low watermark. */
export const makeLogFollower = Effect.fnUntraced(function* (
  start: StreamPosition,
  read: (position: StreamPosition, limit: number) => Effect.Effect<LogSlice>
): Effect.fn.Return<LogFollower, never, Scope.Scope> {
  const clock = yield* Clock.Clock
  /** What hands the current slice to each consumer. */
  const consumers = new Set<Effect.Effect<void>>()
  const waiting = new Set<Waiter>()
  const woken = Latch.makeUnsafe(false)
  let position = start
  let readUpTo = start
  let current: LogSlice
  /** The last transaction that a wake-up has named, and whether one named none since the last read. */
  let wokenBy = 0
  let mayHaveMore = false
  let behindSince: number | undefined
  let rereads = false

  const hasReached = (xid: number) => !rereads && comparePositions(readUpTo, endOfTransaction(xid)) >= 0

  const wake = (xid?: number) => {
    if (xid === undefined) mayHaveMore = true
    else {
      if (hasReached(xid)) return
      wokenBy = Math.max(wokenBy, xid)
      behindSince ??= monotonicMillisUnsafe(clock)
    }
    woken.openUnsafe()
  }

  /** Created once for each consumer, since there are many consumers, and a slice for each group commit. */
  const handingTo = (consumer: Consumer): Effect.Effect<void> =>
    untilSuccess(
      "A consumer of the event log",
      Effect.suspend(() => consumer(current)),
      { pause: retryInterval }
    )

  const advance = Effect.fnUntraced(function* () {
    if (rereads) {
      rereads = false
      readUpTo = position
    }
    const slice = yield* read(readUpTo, sliceSize)
    // Clients that a consumer wakes read up to this position.
    position = slice.last ?? position
    current = slice
    for (const handing of consumers) yield* handing
    readUpTo = slice.upTo
    for (const waiter of waiting) {
      if (!hasReached(waiter.xid)) continue
      waiting.delete(waiter)
      waiter.resume()
    }
    return slice
  })

  /** A transaction that was named during a read may have been in it: that needs no other read. */
  const readAll = Effect.gen(function* () {
    let pause = firstPause
    while (mayHaveMore || !hasReached(wokenBy)) {
      mayHaveMore = false
      const slice = yield* advance()
      if (!slice.complete) mayHaveMore = true
      if (mayHaveMore || hasReached(wokenBy)) continue
      // The database's transactions end in their own time, also if the clock is a test's.
      yield* Effect.promise(() => pauseFor(pause))
      pause = slice.events.length > 0 ? firstPause : Math.min(2 * pause, longestPause)
    }
    behindSince = undefined
  })

  const readWhenWoken = Effect.gen(function* () {
    yield* woken.await
    woken.closeUnsafe()
    yield* Effect.onError(readAll, () => Effect.sync(() => wake()))
  })
  yield* keepRunning("Reading the event log", readWhenWoken, { pause: retryInterval })

  const rereadAfterLast = () => {
    rereads = true
    wokenBy = 0
    behindSince = undefined
  }

  return {
    wake,
    rereadAfterLast,
    follow: (consumer) => {
      const handing = handingTo(consumer)
      return Effect.map(
        Effect.acquireRelease(
          Effect.sync(() => consumers.add(handing)),
          () => Effect.sync(() => consumers.delete(handing))
        ),
        () => position
      )
    },
    position: () => position,
    hasReached,
    reached: (xid) =>
      Effect.callback<void>((resume) => {
        if (hasReached(xid)) return resume(Effect.void)
        const waiter = { xid, resume: () => resume(Effect.void) }
        waiting.add(waiter)
        return Effect.sync(() => waiting.delete(waiter))
      }),
    lagNow: () => (behindSince === undefined ? 0 : monotonicMillisUnsafe(clock) - behindSince)
  }
})
