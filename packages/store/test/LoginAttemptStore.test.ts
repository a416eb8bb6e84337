import { assert, layer } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { LoginAttemptStore } from "../src/LoginAttemptStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const rate = { limit: 5, window: 50_000 }

layer(LoginAttemptStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)))("LoginAttemptStore", (it) => {
  it.effect("attempts are limited to a burst, and refilled at an even rate", () =>
    Effect.gen(function* () {
      const store = yield* LoginAttemptStore
      const waits = yield* Effect.all(
        Array.from({ length: 12 }, () => store.take("alice", rate)),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(waits.filter((wait) => wait === 0).length, 5)
      assert.deepStrictEqual([...new Set(waits.filter((wait) => wait > 0))], [10_000])
      assert.strictEqual(yield* store.take("bob", rate), 0)
      yield* TestClock.adjust(9_000)
      assert.strictEqual(yield* store.take("alice", rate), 1_000)
      yield* TestClock.adjust(1_000)
      assert.deepStrictEqual([yield* store.take("alice", rate), yield* store.take("alice", rate)], [0, 10_000])
      yield* TestClock.adjust(1_000_000)
      assert.strictEqual(yield* store.take("alice", rate), 0)
    })
  )

  it.effect("returned attempts do not count, and old ones are forgotten", () =>
    Effect.gen(function* () {
      const store = yield* LoginAttemptStore
      for (let count = 0; count < 20; count++) {
        assert.strictEqual(yield* store.take("carol", rate), 0)
        yield* store.giveBack("carol")
      }
      yield* TestClock.adjust(100_000)
      yield* store.take("dave", rate)
      yield* store.forget(50_000)
      const sql = yield* SqlClient.SqlClient
      assert.lengthOf(yield* sql`SELECT 1 FROM login_attempts`, 1)
    })
  )

  it.effect("if the clock was put back, no time has passed, and no user waits for the difference", () =>
    Effect.gen(function* () {
      const store = yield* LoginAttemptStore
      yield* TestClock.setTime(4_000_000)
      for (let count = 0; count < 5; count++) yield* store.take("erin", rate)
      yield* store.take("frank", rate)
      yield* TestClock.setTime(400_000)
      assert.strictEqual(yield* store.take("frank", rate), 0)
      assert.strictEqual(yield* store.take("erin", rate), 10_000)
      yield* TestClock.adjust(10_000)
      assert.strictEqual(yield* store.take("erin", rate), 0)
    })
  )
})
