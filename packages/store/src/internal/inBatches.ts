/**
 * Writes the rows of many callers together: a batch has all rows that were queued while the batch before it was written.
 */
import { Effect, Queue, type Scope } from "effect"

/** `write` answers the callers of a batch, and does not fail. Runs until the scope closes. */
export const inBatches = <A, R>(
  pending: Queue.Dequeue<A>,
  maxBatch: number,
  write: (batch: ReadonlyArray<A>) => Effect.Effect<void, never, R>
): Effect.Effect<void, never, R | Scope.Scope> =>
  Queue.takeBetween(pending, 1, maxBatch).pipe(
    Effect.flatMap(write),
    Effect.forever({ disableYield: true }),
    Effect.forkScoped,
    Effect.asVoid
  )
