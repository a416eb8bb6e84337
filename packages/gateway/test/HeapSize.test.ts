import { assert, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import * as HeapSize from "../src/HeapSize.ts"

/** In ms, since the process began. */
const processorTime = (): number => {
  const { system, user } = process.cpuUsage()
  return (system + user) / 1_000
}

/** Uses the processor until the process has used it for so many ms. */
const workUntil = (time: number) =>
  Effect.sync(() => {
    let used = processorTime()
    while (used < time) used = processorTime()
  })

/** What a reference holds is not collected before the turn of the event loop in which it was read has ended. */
const endOfTurn = Effect.promise(() => new Promise(setImmediate))

const interval = Effect.andThen(TestClock.adjust("2 seconds"), endOfTurn)

it.effect("a program collects its garbage once it has been idle for ten seconds after work", () =>
  Effect.gen(function* () {
    // Less work is not worth a collection.
    yield* workUntil(2_000)
    const garbage = yield* Effect.sync(() => new WeakRef({}))
    yield* endOfTurn
    const isCollected = Effect.andThen(
      endOfTurn,
      Effect.sync(() => garbage.deref() === undefined)
    )
    for (let count = 0; count < 6; count++) {
      yield* workUntil(processorTime() + 60)
      yield* interval
    }
    assert.isFalse(yield* isCollected)
    let idle = 0
    while (idle < 50 && !(yield* isCollected)) {
      yield* interval
      idle++
    }
    assert.isAtLeast(idle, 5)
    assert.isBelow(idle, 50)
  }).pipe(Effect.provide(HeapSize.layer))
)
