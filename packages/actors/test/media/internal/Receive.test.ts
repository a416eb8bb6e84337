import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { Readable } from "node:stream"
import { assert, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { afterEach, beforeEach, describe, vi } from "vitest"
import { receive } from "../../../src/media/internal/Receive.ts"

const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(() => fs.mkdtemp(path.join(os.tmpdir(), "greenroom-receive-"))),
  (directory) => Effect.promise(() => fs.rm(directory, { recursive: true, force: true }))
)

/** Advances the clock once the rate of the sender is watched. */
const advance = (ms: number) =>
  Effect.promise(async () => {
    await vi.waitUntil(() => vi.getTimerCount() > 0, { timeout: 30_000 })
    vi.advanceTimersByTime(ms)
  })

describe("receiving a file", () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ["setInterval", "clearInterval", "performance"] })
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it.effect("a sender below the lowest rate is cut off, and nothing stays of its file", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const source = new Readable({ read() {} })
      source.push("a")
      const receiving = yield* Effect.forkChild(Effect.flip(Effect.scoped(receive(directory, source, 1_000))))
      yield* advance(66_000)
      assert.include((yield* Fiber.join(receiving)).error, "too slowly")
      assert.isTrue(source.destroyed)
      assert.deepStrictEqual(yield* Effect.promise(() => fs.readdir(directory)), [])
    })
  )

  it.effect("a sender that keeps the lowest rate may take long", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const source = new Readable({ read() {} })
      const content = Buffer.alloc(200_000, "a")
      source.push(content)
      const receiving = yield* Effect.forkChild(
        Effect.scoped(Effect.map(receive(directory, source, 1_000_000), ({ size }) => size))
      )
      yield* Effect.promise(() => vi.waitUntil(() => source.readableLength === 0, { timeout: 30_000 }))
      yield* advance(100_000)
      source.push(null)
      assert.strictEqual(yield* Fiber.join(receiving), content.length)
    })
  )
})
