import { assert, layer } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Clock, Effect, Layer, Option } from "effect"
import { TestClock } from "effect/testing"
import { DestinationStore } from "../src/DestinationStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const fail = Effect.fnUntraced(function* (destination: ServerName) {
  const { failed } = yield* DestinationStore
  const { failures, retryAt } = yield* failed(destination, "no answer\u0000")
  return { failures, wait: retryAt - (yield* Clock.currentTimeMillis) }
})

layer(DestinationStore.layer.pipe(Layer.provide(TestDatabase.layer)))("DestinationStore", (it) => {
  it.effect("every failure doubles the wait, up to a day", () =>
    Effect.gen(function* () {
      const name = "slow.org" as ServerName
      yield* TestClock.adjust("30 days")
      for (let i = 0; i < 40; i++) {
        const { failures, wait } = yield* fail(name)
        const whole = Math.min(1_000 * 2 ** i, 86_400_000)
        assert.strictEqual(failures, i + 1)
        assert.isAtMost(wait, whole)
        assert.isAtLeast(wait, whole * 0.7 - 1)
        yield* TestClock.adjust(wait)
      }
    })
  )

  it.effect("if the clock was put back, failures with later times delay nothing", () =>
    Effect.gen(function* () {
      const { find, list } = yield* DestinationStore
      const name = "future.org" as ServerName
      yield* TestClock.adjust("30 days")
      for (let i = 0; i < 10; i++) yield* TestClock.adjust((yield* fail(name)).wait)
      yield* fail(name)
      yield* TestClock.setTime((yield* Clock.currentTimeMillis) - 3_600_000)
      assert.strictEqual(Option.getOrThrow(yield* find(name)).retryAt, 0)
      assert.strictEqual((yield* list).find(({ destination }) => destination === name)?.retryAt, 0)
      const { failures, wait } = yield* fail(name)
      assert.strictEqual(failures, 12)
      assert.isAtMost(wait, 2_048_000)
      assert.isAbove(Option.getOrThrow(yield* find(name)).retryAt, yield* Clock.currentTimeMillis)
    })
  )

  it.effect("attempts that failed together count as one", () =>
    Effect.gen(function* () {
      const name = "busy.org" as ServerName
      yield* TestClock.adjust("30 days")
      const all = yield* Effect.all([fail(name), fail(name), fail(name)], { concurrency: "unbounded" })
      assert.deepStrictEqual(
        all.map((entry) => entry.failures),
        [1, 1, 1]
      )
    })
  )

  it.effect("an answer ends the wait, and so does a request of the server", () =>
    Effect.gen(function* () {
      const { find, heardFrom, list, speaksDraft, succeeded } = yield* DestinationStore
      const name = "back.org" as ServerName
      yield* TestClock.adjust("30 days")
      const now = yield* Clock.currentTimeMillis
      assert.isTrue(Option.isNone(yield* find(name)))
      assert.isFalse(yield* heardFrom(name))
      yield* fail(name)
      assert.isTrue(yield* heardFrom(name))
      assert.isFalse(yield* heardFrom(name))
      assert.strictEqual((yield* fail(name)).failures, 1)
      yield* succeeded(name)
      const state = Option.getOrThrow(yield* find(name))
      assert.deepStrictEqual(state, {
        destination: name,
        failures: 0,
        retryAt: 0,
        lastSuccessAt: now,
        lastFailureAt: now,
        lastError: "no answer\u0000",
        draftUntil: 0
      })
      yield* speaksDraft(name)
      assert.isAbove(Option.getOrThrow(yield* find(name)).draftUntil, now)
      yield* TestClock.setTime(now - 5 * 86_400_000)
      assert.strictEqual(Option.getOrThrow(yield* find(name)).draftUntil, 0)
      assert.include(
        (yield* list).map((destinationState) => destinationState.destination),
        name
      )
    })
  )
})
