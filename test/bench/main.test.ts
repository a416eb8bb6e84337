/**
 * That the benchmarks run, not what they measure: time has no place in tests.
 */
import { execFile } from "node:child_process"
import { fileURLToPath } from "node:url"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"

const program = fileURLToPath(new URL("./main.ts", import.meta.url))

interface Ended {
  readonly code: number | string | null | undefined
  readonly output: string
}

const bench = (...args: ReadonlyArray<string>): Effect.Effect<Ended> =>
  Effect.callback((resume) => {
    execFile(process.execPath, [program, ...args], (error, stdout, stderr) =>
      resume(Effect.succeed({ code: error === null ? 0 : error.code, output: stdout + stderr }))
    )
  })

describe("npm run bench", () => {
  it.live(
    "prints every figure beside its baseline and its target",
    () =>
      Effect.gen(function* () {
        const { code, output } = yield* bench("--quick", "sends", "actors")
        assert.strictEqual(code, 0, output)
        assert.match(output, /8 senders in 8 rooms +[0-9,]+ events\/s +[0-9,]+ INSERTs\/s.* at least 0\.3: /)
        assert.match(output, /local actor messages +[0-9,]+ messages\/s +[0-9,]+ messages\/s/)
      }),
    180_000
  )

  it.live(
    "prints what a setting costs beside the difference of two equal gateways, and no verdict on small numbers",
    () =>
      Effect.gen(function* () {
        const { code, output } = yield* bench("--quick", "metrics")
        assert.strictEqual(code, 0, output)
        assert.match(output, /two equal gateways +[0-9.]+ us of the processor a send .* [+-][0-9.]+ %/)
        assert.match(output, /metrics, read every second +[0-9.]+ us of the processor a send .* [+-][0-9.]+ %/)
        assert.notMatch(output, /: (met|MISSED)/)
      }),
    180_000
  )

  it.live("lists the benchmarks when an unknown one is named", () =>
    Effect.gen(function* () {
      const { code, output } = yield* bench("unheard-of")
      assert.strictEqual(code, 1)
      assert.include(output, "There is no benchmark unheard-of")
      assert.include(output, "durable sends by HTTP, each sender in a room of their own")
    })
  )
})
