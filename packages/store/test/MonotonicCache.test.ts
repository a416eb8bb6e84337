import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit } from "effect"
import { TestClock } from "effect/testing"
import * as MonotonicCache from "../src/MonotonicCache.ts"

/** A cache that counts its lookups. Odd keys fail. */
const make = Effect.gen(function* () {
  const counter = { lookups: 0 }
  const cache = yield* MonotonicCache.makeWith(
    (key: number): Effect.Effect<number, string> =>
      Effect.suspend(() => (key % 2 === 0 ? Effect.succeed(++counter.lookups) : Effect.fail(`${++counter.lookups}`))),
    { capacity: 2, timeToLive: (exit) => (Exit.isSuccess(exit) ? "1 minute" : "1 second") }
  )
  return { cache, counter }
})

describe("MonotonicCache", () => {
  it.effect("values and failures are kept for their lifetimes", () =>
    Effect.gen(function* () {
      const { cache } = yield* make
      assert.strictEqual(yield* MonotonicCache.get(cache, 2), 1)
      assert.strictEqual(yield* Effect.flip(MonotonicCache.get(cache, 1)), "2")
      yield* TestClock.adjust(999)
      assert.strictEqual(yield* Effect.flip(MonotonicCache.get(cache, 1)), "2")
      yield* TestClock.adjust(1)
      assert.strictEqual(yield* Effect.flip(MonotonicCache.get(cache, 1)), "3")
      assert.strictEqual(yield* MonotonicCache.get(cache, 2), 1)
      yield* TestClock.adjust("1 minute")
      assert.isFalse(yield* MonotonicCache.has(cache, 2))
      assert.strictEqual(yield* MonotonicCache.get(cache, 2), 4)
      assert.isTrue(yield* MonotonicCache.has(cache, 2))
    })
  )

  it.effect("a clock that is put back makes nothing live longer", () =>
    Effect.gen(function* () {
      const { cache } = yield* make
      yield* TestClock.setTime(4_000_000)
      yield* Effect.flip(MonotonicCache.get(cache, 1))
      yield* TestClock.setTime(400_000)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* Effect.flip(MonotonicCache.get(cache, 1)), "2")
    })
  )

  it.effect("setting, invalidating and evicting work as in every cache", () =>
    Effect.gen(function* () {
      const { cache, counter } = yield* make
      yield* MonotonicCache.set(cache, 2, 20)
      assert.strictEqual(yield* MonotonicCache.get(cache, 2), 20)
      yield* MonotonicCache.invalidate(cache, 2)
      assert.strictEqual(yield* MonotonicCache.get(cache, 2), 1)
      for (const key of [4, 6]) yield* MonotonicCache.get(cache, key)
      assert.strictEqual(yield* MonotonicCache.get(cache, 2), 4)
      assert.strictEqual(counter.lookups, 4)
    })
  )

  it.effect("concurrent requests share one lookup, also when it is due again", () =>
    Effect.gen(function* () {
      const { cache, counter } = yield* make
      const ask = Effect.all([MonotonicCache.get(cache, 2), MonotonicCache.get(cache, 2)], { concurrency: 2 })
      assert.deepStrictEqual(yield* ask, [1, 1])
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* ask, [2, 2])
      assert.strictEqual(counter.lookups, 2)
    })
  )
})
