import { assert, layer } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { SqlClient } from "effect/sql"
import { makeNumberBlocks, type NumberBlocks } from "../src/NumberBlocks.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const take = (blocks: NumberBlocks, count: number): Effect.Effect<number> =>
  Effect.suspend(() => {
    const first = blocks.takeUnsafe(count)
    return first === undefined ? Effect.andThen(blocks.refill(count), take(blocks, count)) : Effect.succeed(first)
  })

layer(TestDatabase.layer)("NumberBlocks", (it) => {
  it.effect("nobody is given a number twice, whoever asks at the same time", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const nodes = yield* Effect.forEach([1, 2, 3], () => makeNumberBlocks(sql, "state_chain_ids", 100))
      const counts = Array.from({ length: 200 }, (_, index) => (index % 7) + 1)
      const given = yield* Effect.forEach(
        nodes.flatMap((blocks) => counts.map((count) => [blocks, count] as const)),
        ([blocks, count]) => Effect.map(take(blocks, count), (first) => ({ blocks, first, count })),
        { concurrency: 50 }
      )
      const numbers = given.flatMap(({ count, first }) => Array.from({ length: count }, (_, index) => first + index))
      assert.strictEqual(new Set(numbers).size, numbers.length)
      for (const blocks of nodes) {
        const ofNode = given.filter((each) => each.blocks === blocks).map(({ first }) => first)
        assert.strictEqual(ofNode.length, counts.length)
      }
    })
  )

  it.effect("numbers rise, and what is at hand is told beforehand", () =>
    Effect.gen(function* () {
      const blocks = yield* makeNumberBlocks(yield* SqlClient.SqlClient, "state_chain_ids", 100)
      assert.isTrue(blocks.hasUnsafe(100))
      const first = blocks.takeUnsafe(60)!
      assert.isTrue(blocks.takeUnsafe(1)! > first)
      assert.isFalse(blocks.hasUnsafe(60))
      assert.isUndefined(blocks.takeUnsafe(60))
      yield* blocks.refill(60)
      assert.isTrue(blocks.hasUnsafe(60))
      assert.isAbove(blocks.takeUnsafe(60)!, first + 60)
    })
  )

  it.effect("more than a block is refused, not waited for", () =>
    Effect.gen(function* () {
      const blocks = yield* makeNumberBlocks(yield* SqlClient.SqlClient, "state_chain_ids", 100)
      assert.isTrue(Exit.isFailure(yield* Effect.exit(blocks.refill(101))))
    })
  )
})
