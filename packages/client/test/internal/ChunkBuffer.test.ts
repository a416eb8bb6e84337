import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect } from "effect"
import { ConnectionError } from "../../src/ConnectionError.ts"
import { makeChunkBuffer, maxBufferedChunks } from "../../src/internal/ChunkBuffer.ts"

const chunk = (number: number) => ({ chunk: [], start: `t${number}`, end: `t${number + 1}` })

const take = (count: number, buffer: Effect.Success<ReturnType<typeof makeChunkBuffer>>, onGap = () => {}) =>
  Effect.map(
    Effect.forEach(Array.from({ length: count }), () => buffer.take(onGap)),
    (chunks) => chunks.map(({ start }) => start)
  )

describe("ChunkBuffer", () => {
  it.effect("a new connection begins at the end of the buffer", () =>
    Effect.gen(function* () {
      const buffer = yield* makeChunkBuffer("t0")
      assert.strictEqual(buffer.position(), "t0")
      buffer.offer(chunk(0))
      buffer.offer(chunk(1))
      assert.strictEqual(buffer.position(), "t2")
      assert.deepStrictEqual(yield* take(2, buffer), ["t0", "t1"])
    })
  )

  it.effect("chunks that do not fit are dropped, and requested again when the buffer has been read", () =>
    Effect.gen(function* () {
      const buffer = yield* makeChunkBuffer("t0")
      for (let number = 0; number < maxBufferedChunks + 10; number++) buffer.offer(chunk(number))
      assert.strictEqual(buffer.position(), `t${maxBufferedChunks}`)
      let gaps = 0
      yield* take(maxBufferedChunks, buffer, () => {
        gaps++
      })
      assert.strictEqual(gaps, 0)
      const onGap = () => {
        gaps++
        buffer.reconnected()
        buffer.offer(chunk(maxBufferedChunks))
      }
      assert.deepStrictEqual(yield* take(1, buffer, onGap), [`t${maxBufferedChunks}`])
      assert.strictEqual(gaps, 1)
    })
  )

  it.effect("the buffered chunks are read before the close reason of the socket", () =>
    Effect.gen(function* () {
      const buffer = yield* makeChunkBuffer("t0")
      buffer.offer(chunk(0))
      const error = new ConnectionError({ error: "Closed", transient: false })
      buffer.fail(Cause.fail(error))
      assert.deepStrictEqual(yield* take(1, buffer), ["t0"])
      assert.strictEqual(yield* Effect.flip(take(1, buffer)), error)
    })
  )
})
