import type { AddressInfo } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { TestClock } from "effect/testing"
import { WebSocket, WebSocketServer } from "ws"
import { makeOutbox, maxBuffered, type Outbox } from "../../src/socket/Outbox.ts"
import { maxUnreadBytes, UnreadAnswers } from "../../src/UnreadAnswers.ts"

/** Both ends of a WebSocket. */
const pair = Effect.gen(function* () {
  const server = yield* Effect.acquireRelease(
    Effect.callback<WebSocketServer>((resume) => {
      const server: WebSocketServer = new WebSocketServer({ host: "127.0.0.1", port: 0 })
      server.once("listening", () => resume(Effect.succeed(server)))
    }),
    (server) => Effect.sync(() => server.close())
  )
  const accepted = new Promise<WebSocket>((resolve) => server.once("connection", resolve))
  const { port } = server.address() as AddressInfo
  const theirs = yield* Effect.acquireRelease(
    Effect.sync(() => new WebSocket(`ws://127.0.0.1:${port}`)),
    (socket) => Effect.sync(() => socket.terminate())
  )
  yield* Effect.callback<void>((resume) => {
    theirs.once("open", () => resume(Effect.void))
  })
  return { ours: yield* Effect.promise(() => accepted), theirs }
})

type Pair = Effect.Success<typeof pair>

/** Lets the sockets do their pending work. */
const turn = Effect.callback<void>((resume) => {
  setImmediate(() => resume(Effect.void))
})

/** A second of the test's clock, and what the sockets have to do. */
const second = Effect.andThen(TestClock.adjust("1 second"), turn)

const frame = "x".repeat(64 * 1024)
const frames = 400

describe("Outbox", () => {
  it.effect("a client that never reads is closed as too slow; its buffer stays bounded", () =>
    Effect.gen(function* () {
      const { ours, theirs } = yield* pair
      theirs.pause()
      let isTooSlow = false
      let sent = 0
      const outbox = makeOutbox(ours, yield* UnreadAnswers, () => {
        isTooSlow = true
      })
      const send = Effect.suspend(() => {
        assert.isBelow(ours.bufferedAmount, maxBuffered)
        sent++
        return outbox.send(frame)
      })
      yield* Effect.forkChild(Effect.repeat(send, { until: () => isTooSlow, times: frames }))
      yield* Effect.repeat(second, { until: () => isTooSlow })
      assert.isBelow(sent, frames)
      assert.isBelow(ours.bufferedAmount, 2 * maxBuffered)
    }).pipe(Effect.scoped, Effect.provide(UnreadAnswers.layer(maxUnreadBytes)))
  )

  it.effect("a client that reads gets everything, however much it is", () =>
    Effect.gen(function* () {
      const { ours, theirs } = yield* pair
      const outbox = makeOutbox(ours, yield* UnreadAnswers, () => assert.fail("too slow"))
      const all = Effect.callback<void>((resume) => {
        let received = 0
        theirs.on("message", () => {
          if (++received === frames) resume(Effect.void)
        })
      })
      yield* Effect.all([Effect.repeat(outbox.send(frame), { times: frames - 1 }), all], { concurrency: "unbounded" })
    }).pipe(Effect.scoped, Effect.provide(UnreadAnswers.layer(maxUnreadBytes)))
  )

  it.effect("the client that has waited longest is cut off when too much waits for all clients together", () =>
    Effect.gen(function* () {
      const [first, second] = [yield* pair, yield* pair]
      const unread = yield* UnreadAnswers
      const fail = () => assert.fail("too slow")
      const [slow, slower] = [makeOutbox(second.ours, unread, fail), makeOutbox(first.ours, unread, fail)]
      for (const { theirs } of [first, second]) theirs.pause()
      // The system takes some for a client that does not read; what it does not take waits here.
      const fill = (outbox: Outbox, { ours }: Pair) =>
        Effect.repeat(Effect.andThen(outbox.send(frame), turn), {
          until: () => ours.bufferedAmount >= maxBuffered / 2,
          times: frames
        })
      yield* fill(slower, first)
      const cut = new Promise((resolve) => first.ours.once("close", resolve))
      yield* fill(slow, second)
      yield* Effect.promise(() => cut)
      assert.strictEqual(second.ours.readyState, WebSocket.OPEN)
    }).pipe(Effect.scoped, Effect.provide(UnreadAnswers.layer((maxBuffered * 3) / 4)))
  )

  it.effect("sending to a closed socket is no failure", () =>
    Effect.gen(function* () {
      const { ours } = yield* pair
      const outbox = makeOutbox(ours, yield* UnreadAnswers, () => assert.fail("too slow"))
      ours.terminate()
      yield* outbox.send(frame)
    }).pipe(Effect.scoped, Effect.provide(UnreadAnswers.layer(maxUnreadBytes)))
  )
})
