/**
 * Removing many rows in batches, so that no transaction is long.
 */
import * as Effect from "effect/Effect"

/** Repeats `remove`, which removes at most `batch` rows and returns how many, until it removes fewer. Returns the total. */
export const removeInBatches = Effect.fnUntraced(function* <E, R>(batch: number, remove: Effect.Effect<number, E, R>) {
  let total = 0
  for (;;) {
    const removed = yield* remove
    total += removed
    if (removed < batch) return total
  }
})
