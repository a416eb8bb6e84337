import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { ShardId } from "effect/cluster"
import { TestClock } from "effect/testing"
import { ShardMoves } from "../../src/runtime/internal/ShardMoves.ts"

const shards = Array.from({ length: 20 }, (_, index) => ShardId.make("default", index + 1))

/** Twenty shards that are to go to another node. */
const scene = Effect.gen(function* () {
  const moves = new ShardMoves()
  const entered: Array<number> = []
  const fibers = yield* Effect.forEach(shards, (shard) =>
    Effect.forkChild(
      Effect.map(moves.enter(shard, true), () => entered.push(shard.id)),
      { startImmediately: true }
    )
  )
  return { moves, entered, all: Fiber.joinAll(fibers) }
})

const numbers = (count: number) => Array.from({ length: count }, (_, index) => index + 1)

describe("shards on their way to other nodes", () => {
  it.effect("the actors of a shard go on until its turn", () =>
    Effect.gen(function* () {
      const { entered, moves } = yield* scene
      yield* Effect.yieldNow
      assert.deepStrictEqual(entered, numbers(8))
      moves.leave(shards[3]!)
      yield* Effect.yieldNow
      assert.deepStrictEqual(entered, numbers(9))
    })
  )

  it.effect("all go when the node goes down, or has given back all locks", () =>
    Effect.gen(function* () {
      const ending = yield* scene
      ending.moves.end()
      yield* ending.all
      assert.deepStrictEqual(ending.entered, numbers(20))
      const freed = yield* scene
      freed.moves.leaveAll()
      yield* Effect.yieldNow
      assert.deepStrictEqual(freed.entered, numbers(16))
    })
  )

  it("all locks may go at once when the node goes down and the actors of all shards have stopped", () => {
    const moves = new ShardMoves()
    moves.started()
    moves.started()
    moves.stopped()
    moves.end()
    assert.isFalse(moves.areAllStopped)
    moves.stopped()
    assert.isTrue(moves.areAllStopped)
    const staying = new ShardMoves()
    staying.started()
    staying.stopped()
    assert.isFalse(staying.areAllStopped)
  })

  it.effect("a move of a shard does not wait on a node that lost it, or for locks that stay taken", () =>
    Effect.gen(function* () {
      const { all, entered, moves } = yield* scene
      yield* moves.enter(ShardId.make("default", 100), false)
      yield* TestClock.adjust("5 seconds")
      yield* all
      assert.deepStrictEqual(
        entered.toSorted((a, b) => a - b),
        numbers(20)
      )
    })
  )
})
