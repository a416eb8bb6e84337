/** Work in spare time takes a smaller part of the time while the event loop is busy. */
import { setTimeout as pauseFor } from "node:timers/promises"
import { assert, it } from "@effect/vitest"
import { makeSpareTime } from "@greenroom/actors/runtime/SpareTime"
import { Clock, Effect, Fiber } from "effect"
import { TestClock } from "effect/testing"

/** The length of the break after work of 10 ms, in ms. `meanwhile` is what the node does in it. */
const breakOf = Effect.fnUntraced(function* (
  inSpareTime: Effect.Success<typeof makeSpareTime>,
  meanwhile: Effect.Effect<unknown>
) {
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

it.effect("the break after a piece of work follows from what the node did in the break before", () =>
  Effect.gen(function* () {
    const inSpareTime = yield* makeSpareTime
    assert.strictEqual(yield* breakOf(inSpareTime, rest), 90)
    assert.strictEqual(yield* breakOf(inSpareTime, workHard), 10)
    assert.strictEqual(yield* breakOf(inSpareTime, rest), 90)
  })
)
