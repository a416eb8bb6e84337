/**
 * Timeouts for many waiters, watched by one fiber: a fiber for each would be most of the cost of an idle long poll. Times
 * are rounded up to `grain`.
 */
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { keepRunning } from "@greenroom/store/Supervision"
import { Effect, Latch, type Scope } from "effect"

/** In milliseconds. */
const grain = 20

/** The longest that a timer of JavaScript sleeps, in ms. */
const longestSleep = 2 ** 31 - 1

/**
 * Calls `expire` at `time` of the monotonic clock, in ms, or a little later, and never before it has returned: callers set
 * up what `expire` needs by then. The result cancels it.
 */
export type AddDeadline = (time: number, expire: () => void) => () => void

/** Starts the fiber that watches all deadlines of a scope. */
export const makeDeadlines: Effect.Effect<AddDeadline, never, Scope.Scope> = Effect.gen(function* () {
  const due = new Map<number, Set<() => void>>()
  const earlier = Latch.makeUnsafe(false)
  let next = Number.POSITIVE_INFINITY

  const expire = (now: number) => {
    for (const [time, waiting] of [...due].sort(([a], [b]) => a - b)) {
      if (time > now) break
      due.delete(time)
      for (const expire of waiting) expire()
    }
  }

  const step = Effect.gen(function* () {
    const now = yield* monotonicMillis
    expire(now)
    earlier.closeUnsafe()
    next = Math.min(...due.keys())
    if (next === Number.POSITIVE_INFINITY) yield* earlier.await
    else yield* Effect.raceFirst(Effect.sleep(Math.min(next - now, longestSleep)), earlier.await)
  })
  yield* keepRunning("Watching deadlines", step)

  return (time, expire) => {
    const rounded = Math.ceil(time / grain) * grain
    const waiting = due.get(rounded)
    if (waiting === undefined) due.set(rounded, new Set([expire]))
    else waiting.add(expire)
    if (rounded < next) {
      next = rounded
      // The watching fiber runs within `openUnsafe`, and would expire what is past.
      queueMicrotask(() => earlier.openUnsafe())
    }
    return () => {
      const waiting = due.get(rounded)
      if (waiting?.delete(expire) && waiting.size === 0) due.delete(rounded)
    }
  }
})
