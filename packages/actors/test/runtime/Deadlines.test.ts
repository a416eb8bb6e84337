import { assert, describe, it } from "@effect/vitest"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { makeDeadlines } from "../../src/runtime/Deadlines.ts"

describe("Deadlines", () => {
  it.effect("each expires in its time, unless it was taken back", () =>
    Effect.gen(function* () {
      const add = yield* makeDeadlines
      const now = yield* monotonicMillis
      const expired: Array<string> = []
      add(now + 2_000, () => expired.push("second"))
      add(now + 1_000, () => expired.push("first"))
      const takeBack = add(now + 1_000, () => expired.push("never"))
      takeBack()
      yield* TestClock.adjust(1_000)
      assert.deepStrictEqual(expired, ["first"])
      yield* TestClock.adjust(1_000)
      assert.deepStrictEqual(expired, ["first", "second"])
    })
  )

  it.effect("a deadline in the past expires at once, but not before its caller has it", () =>
    Effect.gen(function* () {
      const add = yield* makeDeadlines
      yield* TestClock.adjust(1_000)
      const now = yield* monotonicMillis
      for (const time of [now - 500, now - 100, now]) {
        let added = false
        const wasAdded = yield* Effect.callback<boolean>((resume) => {
          add(time, () => resume(Effect.succeed(added)))
          added = true
        })
        assert.isTrue(wasAdded)
      }
    })
  )

  it.effect("a clock that is put back delays nothing that is added then", () =>
    Effect.gen(function* () {
      const add = yield* makeDeadlines
      yield* TestClock.setTime(4_000_000)
      yield* TestClock.setTime(400_000)
      let expired = false
      add((yield* monotonicMillis) + 1_000, () => {
        expired = true
      })
      yield* TestClock.adjust(1_000)
      assert.isTrue(expired)
    })
  )
})
