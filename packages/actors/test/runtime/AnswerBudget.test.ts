import { assert, describe, it } from "@effect/vitest"
import { makeLargeReads, smallRead } from "@greenroom/store/LargeReads"
import { Effect, Fiber, Latch, Option } from "effect"
import { TestClock } from "effect/testing"
import {
  ArrivingAnswers,
  answersTimeoutOption,
  awaitingOthers,
  CurrentAnswerBudget,
  LargeAnswers,
  withAnswerBudget
} from "../../src/runtime/AnswerBudget.ts"
import { ArrivingBodies } from "../../src/runtime/ArrivingBodies.ts"

/** Reads an answer of so many MiB. */
const read = (size: number) =>
  Effect.flatMap(CurrentAnswerBudget, (budget) =>
    budget!.memory.asking(Effect.sync(() => budget!.memory.add(size * smallRead)))
  )

const begin = <A, E>(work: Effect.Effect<A, E>) =>
  Effect.forkChild(withAnswerBudget(100 * smallRead, "somebody", work), { startImmediately: true })

/** With one permit, and memory for answers of so many MiB without it. */
const limited =
  (size: number) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    effect.pipe(
      Effect.provideService(ArrivingAnswers, new ArrivingBodies(size * smallRead)),
      Effect.provideService(
        LargeAnswers,
        makeLargeReads({ tiers: [{ above: 0, requests: 1 }], most: Number.POSITIVE_INFINITY })
      )
    )

/** Work that has read an answer and waits, and other work, which has an answer of the same size. */
const scene = Effect.fnUntraced(function* (wait: (latch: Latch.Latch) => Effect.Effect<void>) {
  const latch = yield* Latch.make(false)
  const waiting = yield* begin(Effect.andThen(read(3), wait(latch)))
  const other = yield* begin(read(3))
  yield* TestClock.adjust("1 second")
  return { latch, waiting, other }
})

describe("AnswerBudget", () => {
  it.effect("work has no permit while it waits for others, and needs it to go on", () =>
    Effect.gen(function* () {
      const { latch, other, waiting } = yield* scene(({ await: opened }) => awaitingOthers(opened))
      yield* Fiber.join(other)
      const end = yield* Latch.make(false)
      const last = yield* begin(Effect.andThen(read(3), end.await))
      yield* latch.open
      yield* TestClock.adjust("1 second")
      assert.isUndefined(waiting.pollUnsafe())
      yield* end.open
      yield* Fiber.join(last)
      yield* Fiber.join(waiting)
    }).pipe(limited(12))
  )

  it.effect("work that can give nothing up keeps its permit where memory is short", () =>
    Effect.gen(function* () {
      const { latch, other, waiting } = yield* scene(({ await: opened }) => awaitingOthers(opened))
      assert.isUndefined(other.pollUnsafe())
      yield* latch.open
      yield* Fiber.join(waiting)
      yield* Fiber.join(other)
    }).pipe(limited(5))
  )

  it.effect("work that asks gives its permit up however short memory is", () =>
    Effect.gen(function* () {
      const { latch, other, waiting } = yield* scene(({ await: opened }) =>
        Effect.flatMap(CurrentAnswerBudget, (budget) => Effect.orDie(budget!.memory.asking(opened)))
      )
      yield* Fiber.join(other)
      assert.isUndefined(waiting.pollUnsafe())
      yield* latch.open
      yield* Fiber.join(waiting)
    }).pipe(limited(7))
  )

  it.effect("a time limit stands still while work waits for its permit, and goes on while others are waited for", () =>
    Effect.gen(function* () {
      const end = yield* Latch.make(false)
      const first = yield* begin(Effect.andThen(read(3), end.await))
      const waits = Effect.flatMap(CurrentAnswerBudget, (budget) => budget!.memory.asking(Effect.never))
      const timed = yield* begin(answersTimeoutOption(Effect.andThen(read(3), waits), "20 seconds"))
      yield* TestClock.adjust("50 seconds")
      yield* end.open
      yield* Fiber.join(first)
      yield* TestClock.adjust("19 seconds")
      assert.isUndefined(timed.pollUnsafe())
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(Option.isNone(yield* Fiber.join(timed)))
    }).pipe(limited(12))
  )

  it.effect(
    "a time limit goes on where one question of the work waits for a server and another one for the permit",
    () =>
      Effect.gen(function* () {
        const end = yield* Latch.make(false)
        const first = yield* begin(Effect.andThen(read(3), end.await))
        const asks = Effect.flatMap(CurrentAnswerBudget, (budget) => budget!.memory.asking(Effect.never))
        const both = Effect.all([read(3), asks], { concurrency: 2 })
        const timed = yield* begin(answersTimeoutOption(both, "20 seconds"))
        yield* TestClock.adjust("20 seconds")
        assert.isTrue(Option.isNone(yield* Fiber.join(timed)))
        yield* end.open
        yield* Fiber.join(first)
      }).pipe(limited(12))
  )

  it.effect("work that has waited a minute for its permit is given up, and its memory is free for others", () =>
    Effect.gen(function* () {
      const end = yield* Latch.make(false)
      const first = yield* begin(Effect.andThen(read(3), end.await))
      const second = yield* begin(read(3))
      yield* TestClock.adjust("59 seconds")
      assert.isUndefined(second.pollUnsafe())
      yield* TestClock.adjust("1 second")
      const { _tag, reason } = yield* Effect.flip(Fiber.join(second))
      assert.deepStrictEqual([_tag, reason], ["AnswerGivenUp", "other large answers were worked on for 1 minute"])
      const third = yield* begin(read(3))
      assert.isUndefined(third.pollUnsafe())
      yield* end.open
      yield* Fiber.join(first)
      yield* Fiber.join(third)
    }).pipe(limited(5))
  )
})
