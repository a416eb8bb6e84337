import { createHash } from "node:crypto"
import * as fs from "node:fs/promises"
import { Readable } from "node:stream"
import { assert, it } from "@effect/vitest"
import { temporaryDirectory } from "@greenroom/store/testing/Loopback"
import { Effect, Fiber } from "effect"
import { afterEach, beforeEach, describe, vi } from "vitest"
import { receive } from "../../../src/media/internal/Receive.ts"

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
      const directory = yield* temporaryDirectory("receive")
      const source = new Readable({ read() {} })
      source.push("a")
      const receiving = yield* Effect.forkChild(Effect.flip(Effect.scoped(receive(directory, source, 1_000))))
      yield* advance(66_000)
      assert.include((yield* Fiber.join(receiving)).error, "too slowly")
      assert.isTrue(source.destroyed)
      assert.deepStrictEqual(yield* Effect.promise(() => fs.readdir(directory)), [])
    })
  )

  it.effect(
    "a slow sender is cut off even if its bytes come through a generator, which cannot be ended while it waits",
    () =>
      Effect.gen(function* () {
        const directory = yield* temporaryDirectory("receive")
        const never = Promise.withResolvers<void>()
        const chunks = async function* () {
          yield Buffer.from("a")
          await never.promise
        }
        const source = Readable.from(chunks(), { objectMode: false })
        const receiving = yield* Effect.forkChild(Effect.flip(Effect.scoped(receive(directory, source, 1_000))))
        yield* advance(66_000)
        assert.include((yield* Fiber.join(receiving)).error, "too slowly")
        assert.deepStrictEqual(yield* Effect.promise(() => fs.readdir(directory)), [])
        never.resolve()
      })
  )

  it.effect("a sender that keeps the lowest rate may take long", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory("receive")
      const source = new Readable({ read() {} })
      const content = Buffer.alloc(200_000, "a")
      source.push(content)
      const receiving = yield* Effect.forkChild(
        Effect.scoped(Effect.map(receive(directory, source, 1_000_000), ({ size }) => size))
      )
      yield* Effect.promise(() => vi.waitUntil(() => source.readableLength === 0, { timeout: 30_000 }))
      yield* advance(100_000)
      source.push(null)
      assert.strictEqual(yield* Fiber.join(receiving), 200_000)
    })
  )

  it.effect("chunks are freed once they are on the disk, unless they share their memory with others", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory("receive")
      const text = "a".repeat(100_000)
      const chunks = [Buffer.from(text), Buffer.from(text).subarray(10), Buffer.from(text)]
      const whole = Buffer.concat(chunks)
      const { head, path: file, sha256, size } = yield* receive(directory, Readable.from(chunks), 1_000_000)
      assert.deepStrictEqual(
        chunks.map((chunk) => chunk.length),
        [0, 99_990, 0]
      )
      assert.isTrue(whole.equals(yield* Effect.promise(() => fs.readFile(file))))
      assert.deepStrictEqual(Buffer.from(sha256), createHash("sha256").update(whole).digest())
      assert.deepStrictEqual([size, Buffer.from(head).toString()], [299_990, text.slice(0, 4_096)])
    }).pipe(Effect.scoped)
  )
})
