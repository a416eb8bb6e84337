/**
 * How long to wait before something that failed is tried again.
 */
import { Effect, Random } from "effect"

/** The first and the longest wait, in ms. */
const firstWait = 1_000
export const longestWait = 60 * 60_000

/** Milliseconds after so many failures: doubled each time up to an hour, less up to a fifth so that all do not come at once. */
export const backoff = (failures: number): Effect.Effect<number> =>
  Effect.map(Random.next, (random) => {
    const wait = Math.min(longestWait, firstWait * 2 ** Math.min(30, Math.max(0, failures - 1)))
    return Math.ceil(wait * (1 - random / 5))
  })
