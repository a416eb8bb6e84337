/**
 * Numbers from a PostgreSQL sequence, reserved in blocks, so that taking one needs no query and is synchronous. Numbers increase. The
 * rest of a block is not used after a crash.
 */
import { Effect, Semaphore } from "effect"
import type { SqlClient } from "effect/sql"

export interface NumberBlocks {
  /** True if so many numbers can be taken, one after the other. */
  readonly hasUnsafe: (count: number) => boolean
  /** A number above all earlier ones; undefined if none is available: then run `refill` and try again. */
  readonly takeUnsafe: () => number | undefined
  /** Makes at least `count` numbers available. */
  readonly refill: (count: number) => Effect.Effect<void>
}

interface Block {
  next: number
  readonly end: number
}

/** `blockSize` is the INCREMENT BY of the sequence. */
export const makeNumberBlocks = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  sequence: string,
  blockSize: number
) {
  const refillLock = yield* Semaphore.make(1)
  const blocks: Array<Block> = []
  let available = 0

  const takeUnsafe = (): number | undefined => {
    const block = blocks[0]
    if (block === undefined) return undefined
    const number = block.next++
    available--
    if (block.next === block.end) blocks.shift()
    return number
  }

  const add = (first: number): void => {
    blocks.push({ next: first, end: first + blockSize })
    available += blockSize
  }

  const reserve = (count: number) =>
    sql<{ first: bigint }>`
      SELECT nextval(${sequence}::regclass) AS first FROM generate_series(1, ${count}::integer)`.pipe(
      Effect.map((rows) => rows.map((row) => Number(row.first)).sort((a, b) => a - b)),
      Effect.map((firsts) => firsts.forEach(add)),
      Effect.orDie
    )

  const refill = (count: number) =>
    refillLock.withPermits(1)(
      Effect.suspend(() => {
        // Half a block is kept in reserve, so that no caller waits for the next block.
        const missing = Math.max(count, blockSize / 2) - available
        return missing <= 0 ? Effect.void : reserve(Math.ceil(missing / blockSize))
      })
    )

  yield* refill(1)
  return { hasUnsafe: (count) => available >= count, takeUnsafe, refill } satisfies NumberBlocks
})
