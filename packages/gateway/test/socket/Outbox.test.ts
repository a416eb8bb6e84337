import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { WebSocket } from "ws"
import { makeOutbox, maxBuffered, type Outbox } from "../../src/socket/Outbox.ts"
import { maxUnreadBytes, UnreadAnswers } from "../../src/UnreadAnswers.ts"
import { type SocketPair, socketPair } from "./SocketPair.ts"

/** Waits until the sockets have handled their pending events. */
const nextTick = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/** Advances the clock of the test by a second, and lets the sockets handle their events. */
const passSecond = Effect.andThen(TestClock.adjust("1 second"), nextTick)

const frame = "x".repeat(64 * 1024)
const frames = 400

describe("Outbox", () => {
  it.effect("closes the socket of a client that does not read, whose buffer stays bounded", () =>
    Effect.gen(function* () {
      const { client, server } = yield* socketPair
      client.pause()
      let isTooSlow = false
      let sent = 0
      const outbox = makeOutbox(server, yield* UnreadAnswers, () => {
        isTooSlow = true
      })
      const send = Effect.suspend(() => {
        assert.isBelow(server.bufferedAmount, maxBuffered)
        sent++
        return outbox.send(frame)
      })
      yield* Effect.forkChild(Effect.repeat(send, { until: () => isTooSlow, times: frames }))
      yield* Effect.repeat(passSecond, { until: () => isTooSlow })
      assert.isBelow(sent, frames)
      assert.isBelow(server.bufferedAmount, 2 * maxBuffered)
    }).pipe(Effect.scoped, Effect.provide(UnreadAnswers.layer(maxUnreadBytes)))
  )

  it.effect("sends everything to a client that reads", () =>
    Effect.gen(function* () {
      const { client, server } = yield* socketPair
      const outbox = makeOutbox(server, yield* UnreadAnswers, () => assert.fail("too slow"))
      const all = Effect.callback<void>((resume) => {
        let received = 0
        client.on("message", () => {
          if (++received === frames) resume(Effect.void)
        })
      })
      yield* Effect.all([Effect.repeat(outbox.send(frame), { times: frames - 1 }), all], { concurrency: "unbounded" })
    }).pipe(Effect.scoped, Effect.provide(UnreadAnswers.layer(maxUnreadBytes)))
  )

  it.effect("closes the socket whose data has waited longest when too much waits for all clients together", () =>
    Effect.gen(function* () {
      const [first, second] = [yield* socketPair, yield* socketPair]
      const unread = yield* UnreadAnswers
      const fail = () => assert.fail("too slow")
      const [slow, slower] = [makeOutbox(second.server, unread, fail), makeOutbox(first.server, unread, fail)]
      for (const { client } of [first, second]) client.pause()
      // The kernel buffers some data for a client that does not read. The rest waits in the process.
      const fill = (outbox: Outbox, { server }: SocketPair) =>
        Effect.repeat(Effect.andThen(outbox.send(frame), nextTick), {
          until: () => server.bufferedAmount >= maxBuffered / 2,
          times: frames
        })
      yield* fill(slower, first)
      const cut = new Promise((resolve) => first.server.once("close", resolve))
      yield* fill(slow, second)
      yield* Effect.promise(() => cut)
      assert.strictEqual(second.server.readyState, WebSocket.OPEN)
    }).pipe(Effect.scoped, Effect.provide(UnreadAnswers.layer((maxBuffered * 3) / 4)))
  )

  it.effect("ignores data for a closed socket", () =>
    Effect.gen(function* () {
      const { server } = yield* socketPair
      const outbox = makeOutbox(server, yield* UnreadAnswers, () => assert.fail("too slow"))
      server.terminate()
      yield* outbox.send(frame)
    }).pipe(Effect.scoped, Effect.provide(UnreadAnswers.layer(maxUnreadBytes)))
  )
})
