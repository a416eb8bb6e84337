/**
 * Writes the rows of many callers together: a batch has the rows that were queued while the batch before it was written.
 *
 * Callers that are answered together ask again together. If a batch took all of them, the database would wait while this process handles
 * their requests, and this process while the database writes. So if the database has waited for longer than it writes, a batch
 * takes half of the queue: from then on one half is written while the requests of the other one are handled.
 */
import { Effect, Queue, type Scope } from "effect"

/** The smallest batch that is taken instead of the whole queue: each batch has costs of its own. */
const smallestHalf = 16

/** `write` answers the callers of a batch, and does not fail. Runs until the scope closes. */
export const inBatches = <A, R>(
  pending: Queue.Dequeue<A>,
  maxBatch: number,
  write: (batch: ReadonlyArray<A>) => Effect.Effect<void, never, R>
): Effect.Effect<void, never, R | Scope.Scope> => {
  let begun = 0
  let ended = 0

  const sizeOfBatch = (): number => {
    const queued = Queue.sizeUnsafe(pending)
    const wrote = ended - begun
    begun = performance.now()
    const half = Math.ceil(queued / 2)
    return Math.min(maxBatch, begun - ended > wrote && half >= smallestHalf ? half : queued)
  }

  return Queue.peek(pending).pipe(
    Effect.flatMap(() => Queue.takeBetween(pending, 1, sizeOfBatch())),
    Effect.flatMap(write),
    Effect.tap(() =>
      Effect.sync(() => {
        ended = performance.now()
      })
    ),
    Effect.forever({ disableYield: true }),
    Effect.forkScoped,
    Effect.asVoid
  )
}
