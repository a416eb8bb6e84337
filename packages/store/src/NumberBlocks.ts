/**
 * Numbers from a PostgreSQL sequence, reserved in blocks, so that giving one out costs no query and can be done in the
 * middle of a synchronous step. Numbers rise; what a crash leaves of a block is never used.
 */
import { Effect, Semaphore } from "effect"
import type { SqlClient } from "effect/sql"

export interface NumberBlocks {
  /** True if `takeUnsafe(count)` would succeed. */
  readonly hasUnsafe: (count: number) => boolean
  /** The first of `count` consecutive numbers, or undefined if none are at hand: then run `refill` and try again. */
  readonly takeUnsafe: (count: number) => number | undefined
  /** Makes at least `count` numbers available (at most the size of a block). */
  readonly refill: (count: number) => Effect.Effect<void>
}

/** `blockSize` is the INCREMENT BY of the sequence. */
export const makeNumberBlocks = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  sequence: string,
  blockSize: number
) {
  const one = yield* Semaphore.make(1)
  let next = 0
  let end = 0
  let spare: number | undefined

  const reserve = sql<{ first: bigint }>`SELECT nextval(${sequence}::regclass) AS first`.pipe(
    Effect.map((rows) => Number(rows[0]!.first)),
    Effect.orDie
  )

  const advance = (count: number) => {
    if (end - next < count && spare !== undefined) {
      next = spare
      end = spare + blockSize
      spare = undefined
    }
    return end - next >= count
  }

  const takeUnsafe = (count: number): number | undefined => {
    if (!advance(count)) return undefined
    const first = next
    next += count
    return first
  }

  const refill = (count: number) =>
    one.withPermits(1)(
      Effect.suspend(() => {
        if (count > blockSize)
          return Effect.die(`${count} numbers of ${sequence} are asked for, ${blockSize} are a block`)
        const enough = advance(count)
        if (spare !== undefined || (enough && end - next > blockSize / 2)) return Effect.void
        return Effect.map(reserve, (first) => {
          spare = first
          advance(count)
        })
      })
    )

  yield* refill(1)
  return { hasUnsafe: advance, takeUnsafe, refill } satisfies NumberBlocks
})
