import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { makeNumberBlocks, type NumberBlocks } from "../src/NumberBlocks.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

/** Takes so many numbers in one synchronous step. */
const take = (blocks: NumberBlocks, count: number): Effect.Effect<ReadonlyArray<number>> =>
  Effect.suspend(() =>
    blocks.hasUnsafe(count)
      ? Effect.succeed(Array.from({ length: count }, () => blocks.takeUnsafe()!))
      : Effect.andThen(blocks.refill(count), take(blocks, count))
  )

const rises = (numbers: ReadonlyArray<number>) =>
  numbers.every((entry, index) => index === 0 || entry > numbers[index - 1]!)

layer(TestDatabase.layer)("NumberBlocks", (it) => {
  const make = Effect.flatMap(SqlClient.SqlClient, (sql) => makeNumberBlocks(sql, "state_chain_ids", 100))

  it.effect("concurrent callers get distinct numbers, and each caller's numbers increase", () =>
    Effect.gen(function* () {
      const nodes = yield* Effect.all([make, make, make])
      const counts = Array.from({ length: 200 }, (_, index) => (index % 7) + 1)
      const given = nodes.map((): Array<number> => [])
      yield* Effect.forEach(
        nodes.flatMap((blocks, node) => counts.map((count) => ({ blocks, node, count }))),
        ({ blocks, count, node }) => Effect.map(take(blocks, count), (numbers) => given[node]!.push(...numbers)),
        { concurrency: 50 }
      )
      const all = given.flat()
      assert.strictEqual(new Set(all).size, all.length)
      for (const ofNode of given) assert.isTrue(rises(ofNode))
    })
  )

  it.effect("the count of numbers at hand is known beforehand", () =>
    Effect.gen(function* () {
      const blocks = yield* make
      assert.isTrue(blocks.hasUnsafe(100))
      assert.isFalse(blocks.hasUnsafe(101))
      yield* take(blocks, 100)
      assert.isUndefined(blocks.takeUnsafe())
      yield* blocks.refill(1)
      assert.isDefined(blocks.takeUnsafe())
    })
  )

  it.effect("more than a block can be had at once", () =>
    Effect.gen(function* () {
      const blocks = yield* make
      const numbers = yield* take(blocks, 1_234)
      assert.strictEqual(new Set(numbers).size, 1_234)
      assert.isTrue(rises(numbers))
    })
  )
})
