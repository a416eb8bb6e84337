/**
 * A clock whose sleeps count only the time in which this process ran and could read its sockets. For deadlines of answers from
 * elsewhere, where a late answer has a high price: after a stall of the event loop Node.js fires timers first and reads sockets
 * second, so a deadline by the ordinary clock gives up an answer that has long arrived.
 *
 * A stall of any length counts as one part of the sleep.
 */
import { type Clock, Duration, Effect } from "effect"

/** The longest part of a sleep, in ms. */
const part = 250

/** Ends when the sockets that have something to read were read. */
const socketsRead = Effect.callback<void>((resume) => {
  const handle = setImmediate(() => resume(Effect.void))
  return Effect.sync(() => clearImmediate(handle))
})

/** The clock with other sleeps. */
export const withSleep = (clock: Clock.Clock, sleep: Clock.Clock["sleep"]): Clock.Clock => ({
  currentTimeMillisUnsafe: () => clock.currentTimeMillisUnsafe(),
  currentTimeMillis: clock.currentTimeMillis,
  currentTimeNanosUnsafe: () => clock.currentTimeNanosUnsafe(),
  currentTimeNanos: clock.currentTimeNanos,
  monotonicTimeNanosUnsafe: () => clock.monotonicTimeNanosUnsafe(),
  monotonicTimeNanos: clock.monotonicTimeNanos,
  sleep
})

export const make = (clock: Clock.Clock): Clock.Clock => {
  const sleep = (millis: number): Effect.Effect<void> => {
    if (millis <= 0 || !Number.isFinite(millis)) return clock.sleep(Duration.millis(millis))
    const slept = Effect.andThen(clock.sleep(Duration.millis(Math.min(millis, part))), socketsRead)
    return millis <= part ? slept : Effect.andThen(slept, () => sleep(millis - part))
  }
  return withSleep(clock, (duration) => sleep(Duration.toMillis(duration)))
}
