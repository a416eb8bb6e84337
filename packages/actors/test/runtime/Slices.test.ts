import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { sliced } from "../../src/runtime/Slices.ts"

/** Takes at least this long, in ms. */
const work = (time: number): void => {
  const end = performance.now() + time
  while (performance.now() < end);
}

describe("Slices", () => {
  it.live("computations that follow one another share the time of a turn of the event loop", () =>
    Effect.gen(function* () {
      let turn = 0
      let ends = false
      const count = () => {
        turn++
        if (!ends) setImmediate(count)
      }
      setImmediate(count)
      const stepsOfTurn = new Map<number, number>()
      const short = sliced(function* () {
        for (let step = 0; step < 3; step++) {
          work(1)
          stepsOfTurn.set(turn, (stepsOfTurn.get(turn) ?? 0) + 1)
          yield
        }
      })
      for (let n = 0; n < 20; n++) yield* short
      ends = true
      const steps = [...stepsOfTurn.values()]
      assert.strictEqual(
        steps.reduce((sum, entry) => sum + entry, 0),
        60
      )
      assert.isAtMost(Math.max(...steps), 5, "4 ms of steps of 1 ms, and one that begins before they are over")
    })
  )
})
