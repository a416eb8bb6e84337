import type { IncomingMessage } from "node:http"
import { Readable } from "node:stream"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { assert, describe, it } from "@effect/vitest"
import { ArrivingBodies } from "@greenroom/actors/runtime/ArrivingBodies"
import { Effect, Fiber } from "effect"
import { receiveBody } from "../src/RequestBody.ts"

setFlagsFromString("--expose-gc")
const collectGarbage = runInNewContext("gc") as () => void

/** The memory of objects and buffers that are in use, in bytes. */
const used = () => {
  collectGarbage()
  const { external, heapUsed } = process.memoryUsage()
  return external + heapUsed
}

describe("receiveBody", () => {
  it.live("a body that arrives byte by byte occupies memory in proportion to its bytes", () =>
    Effect.gen(function* () {
      const length = 200_000
      const source = new Readable({ read: () => {} })
      const receiving = yield* Effect.forkChild(receiveBody(source as IncomingMessage, length), {
        startImmediately: true
      })
      const before = used()
      for (let sent = 0; sent < length; sent++) {
        source.push(Buffer.from("a"))
        if (sent % 1_000 === 0) yield* Effect.promise(() => new Promise(setImmediate))
      }
      yield* Effect.promise(() => new Promise(setImmediate))
      assert.isBelow(used() - before, 10 * length)
      source.push(null)
      assert.strictEqual((yield* Fiber.join(receiving)).toString(), "a".repeat(length))
    })
  )

  it.live("a body over the limit, and one that breaks off, are refused", () =>
    Effect.gen(function* () {
      const large = Readable.from([Buffer.alloc(10), Buffer.alloc(1)]) as unknown as IncomingMessage
      assert.strictEqual((yield* Effect.flip(receiveBody(large, 10)))._tag, "M_TOO_LARGE")
      const broken = new Readable({ read: () => {} })
      const receiving = yield* Effect.forkChild(Effect.flip(receiveBody(broken as IncomingMessage, 10)), {
        startImmediately: true
      })
      broken.push(Buffer.from("a"))
      broken.destroy()
      assert.strictEqual((yield* Fiber.join(receiving))._tag, "M_UNKNOWN")
    })
  )

  it.live("where incomplete bodies hold too much together, the oldest are refused, and later ones arrive", () =>
    Effect.gen(function* () {
      const among = new ArrivingBodies(1_000)
      const receive = () =>
        Effect.gen(function* () {
          const source = new Readable({ read: () => {} })
          const received = receiveBody(source as IncomingMessage, 600, among)
          const fiber = yield* Effect.forkChild(Effect.exit(received), { startImmediately: true })
          source.push(Buffer.alloc(400))
          yield* Effect.promise(() => new Promise(setImmediate))
          return { source, fiber }
        })
      const [first, second] = [yield* receive(), yield* receive()]
      second.source.push(null)
      assert.strictEqual((yield* yield* Fiber.join(second.fiber)).length, 400)
      const third = yield* receive()
      assert.isUndefined(first.fiber.pollUnsafe())
      const fourth = yield* receive()
      assert.strictEqual((yield* Effect.flip(yield* Fiber.join(first.fiber)))._tag, "M_LIMIT_EXCEEDED")
      for (const { fiber, source } of [third, fourth]) {
        source.push(Buffer.alloc(100))
        source.push(null)
        assert.strictEqual((yield* yield* Fiber.join(fiber)).length, 500)
      }
    })
  )
})
