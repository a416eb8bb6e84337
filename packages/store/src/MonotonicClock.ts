/**
 * The monotonic clock, for measuring and waiting within a process. Corrections of the system's clock do not change it. Its zero has no
 * meaning, so these times are neither stored nor sent; stored times are milliseconds since 1970.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

export const monotonicMillisUnsafe = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/** Milliseconds since some moment. */
export const monotonicMillis: Effect.Effect<number> = Effect.map(Clock.Clock, monotonicMillisUnsafe)
