/**
 * Time that only goes forward, for measuring and waiting within a process: no correction of the system's clock changes it.
 * Its zero has no meaning, so it is neither stored nor sent; stored times are milliseconds since 1970.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

export const monotonicMillisUnsafe = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/** Milliseconds since some moment. */
export const monotonicMillis: Effect.Effect<number> = Effect.map(Clock.Clock, monotonicMillisUnsafe)
