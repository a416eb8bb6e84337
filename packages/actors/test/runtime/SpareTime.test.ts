/** Work in spare time takes a smaller part of the time while the event loop is busy. */
import { setTimeout as pauseFor } from "node:timers/promises"
import { assert, it } from "@effect/vitest"
import { inSpareTime, pauseWithin } from "@greenroom/actors/runtime/SpareTime"
import { Clock, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"

/** The length of the break after work of 10 ms, in ms. `meanwhile` is what the node does in it. */
const breakOf = Effect.fnUntraced(function* (meanwhile: Effect.Effect<unknown>) {
  const begin = yield* Clock.currentTimeMillis
  const work = inSpareTime(Effect.sleep("10 millis"), () => ({ atRest: 0.5, busy: 0.1 }))
  const fiber = yield* Effect.forkChild(Effect.andThen(work, Clock.currentTimeMillis))
  yield* TestClock.adjust("10 millis")
  yield* meanwhile
  while (fiber.pollUnsafe() === undefined) yield* TestClock.adjust("1 millis")
  return (yield* Fiber.join(fiber)) - begin - 10
})

const rest = Effect.promise(() => pauseFor(1_000))
const workHard = Effect.sync(() => {
  const end = performance.now() + 200
  while (performance.now() < end);
})

it.effect("the break after a piece of work follows from what the node does in it", () =>
  Effect.gen(function* () {
    assert.strictEqual(yield* breakOf(rest), 10)
    assert.strictEqual(yield* breakOf(workHard), 90)
  })
)

it.effect("a long break ends with a second in which the node rests", () =>
  Effect.gen(function* () {
    const breakWith = Effect.fnUntraced(function* (meanwhile: ReadonlyArray<Effect.Effect<unknown>>) {
      const work = inSpareTime(Effect.sleep("300 millis"), () => ({ atRest: 0.5, busy: 0.1 }))
      const fiber = yield* Effect.forkChild(Effect.andThen(work, Clock.currentTimeMillis))
      yield* TestClock.adjust("300 millis")
      const begin = yield* Clock.currentTimeMillis
      for (const second of meanwhile) {
        yield* second
        yield* TestClock.adjust("1 second")
      }
      return (yield* Fiber.join(fiber)) - begin
    })
    assert.strictEqual(yield* breakWith([workHard, rest]), 1_300)
    assert.strictEqual(yield* breakWith([workHard, workHard, workHard]), 2_700)
  })
)

/** How long a wait for a pause takes, in ms. `meanwhile` is what the node does in each second of it. */
const waitFor = Effect.fnUntraced(function* (meanwhile: ReadonlyArray<Effect.Effect<unknown>>) {
  const begin = yield* Clock.currentTimeMillis
  const fiber = yield* Effect.forkChild(Effect.andThen(pauseWithin("4500 millis"), Clock.currentTimeMillis))
  yield* Effect.yieldNow
  for (const second of meanwhile) {
    yield* second
    yield* TestClock.adjust("1 second")
  }
  yield* TestClock.adjust("500 millis")
  return (yield* Fiber.join(fiber)) - begin
})

it.effect("a pause is a second in which the node rests", () =>
  Effect.gen(function* () {
    assert.strictEqual(yield* waitFor([rest]), 1_000)
    assert.strictEqual(yield* waitFor([workHard, workHard, rest]), 3_000)
  })
)

it.effect("the wait for a pause ends where there is none", () =>
  Effect.gen(function* () {
    assert.strictEqual(yield* waitFor([workHard, workHard, workHard, workHard]), 4_500)
  })
)
