/**
 * The back-off of retries.
 */
import { doublingWait } from "@greenroom/store/Backoff"
import { Effect, Random } from "effect"

/** The first and the longest wait, in ms. */
const firstWait = 1_000
export const longestWait = 60 * 60_000

/** The wait after `failures` failures, in ms: doubles up to an hour, with up to 20 % of jitter. */
export const backoff = (failures: number): Effect.Effect<number> =>
  Effect.map(Random.next, (random) => Math.ceil(doublingWait(failures, firstWait, longestWait) * (1 - random / 5)))
