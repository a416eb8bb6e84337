import { assert, describe, it } from "@effect/vitest"
import { Effect, Layer, Logger, References } from "effect"
import { TestClock } from "effect/testing"
import { keepRunning, periodically } from "../src/Supervision.ts"

const captureLog = () => {
  const lines: Array<string> = []
  const logger = Logger.map(Logger.formatLogFmt, (line) => {
    lines.push(line)
  })
  return { lines, layer: Logger.layer([logger]) }
}

describe("Supervision", () => {
  it.effect("work that fails is logged once, tried again, and reported when it works again", () => {
    const { layer, lines } = captureLog()
    let runs = 0
    return Effect.scoped(
      Effect.gen(function* () {
        yield* keepRunning(
          "Counting",
          Effect.suspend(() => {
            runs++
            if (runs < 5) return Effect.die(new Error(`broken ${runs}`))
            return runs === 5 ? Effect.void : Effect.never
          })
        )
        yield* TestClock.adjust("1 minute")
        assert.strictEqual(runs, 6)
        assert.strictEqual(lines.length, 2, lines.join("\n"))
        assert.include(lines[0], "broken 1")
        assert.include(lines[1], "works again")
      })
    ).pipe(Effect.provide(Layer.merge(layer, Layer.succeed(References.MinimumLogLevel, "Info"))))
  })

  it.effect("the wait between attempts grows to a minute and no further", () => {
    let runs = 0
    return Effect.scoped(
      Effect.gen(function* () {
        yield* keepRunning(
          "Failing",
          Effect.suspend(() => {
            runs++
            return Effect.fail("no")
          })
        )
        yield* TestClock.adjust("10 minutes")
        const before = runs
        yield* TestClock.adjust("10 minutes")
        assert.isAtLeast(runs - before, 8)
        assert.isAtMost(runs - before, 13)
      })
    ).pipe(Effect.provide(Logger.layer([])))
  })

  it.effect("periodic work runs after each interval until the scope closes", () => {
    let runs = 0
    const work = Effect.sync(() => runs++)
    return Effect.gen(function* () {
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* periodically("Working", "1 hour", work)
          yield* TestClock.adjust("59 minutes")
          assert.strictEqual(runs, 0)
          yield* TestClock.adjust("2 hours")
          assert.strictEqual(runs, 2)
        })
      )
      yield* TestClock.adjust("5 hours")
      assert.strictEqual(runs, 2)
      yield* Effect.scoped(
        Effect.gen(function* () {
          yield* periodically("Working", "1 hour", work, { atOnce: true })
          yield* TestClock.adjust("1 minute")
          assert.strictEqual(runs, 3)
        })
      )
    })
  })
})
