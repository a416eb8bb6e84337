/**
 * Time that only goes forward, for whatever a process measures or waits for: no correction of the system's clock changes
 * it. Its zero means nothing, so it is neither stored nor sent; what is has milliseconds since 1970.
 */
import { Clock, Effect } from "effect"

export const monotonicMillisUnsafe = (clock: Clock.Clock): number => Number(clock.monotonicTimeNanosUnsafe()) / 1e6

/** Milliseconds since some moment. */
export const monotonicMillis: Effect.Effect<number> = Effect.map(Clock.Clock, monotonicMillisUnsafe)
