import { once } from "node:events"
import * as net from "node:net"
import { Worker } from "node:worker_threads"
import { assert, describe, it } from "@effect/vitest"
import { Clock, Effect, Option } from "effect"
import * as RunningTime from "../../src/runtime/internal/RunningTime.ts"

/** A server on a thread of its own, which answers every byte at once. */
const echo = `
  const { parentPort } = require("node:worker_threads")
  const server = require("node:net").createServer((socket) => socket.pipe(socket))
  server.listen(0, "127.0.0.1", () => parentPort.postMessage(server.address().port))`

const echoPort = Effect.acquireRelease(
  Effect.sync(() => new Worker(echo, { eval: true })),
  (worker) => Effect.promise(() => worker.terminate())
).pipe(Effect.flatMap((worker) => Effect.promise(async () => (await once(worker, "message"))[0] as number)))

const connected = (port: number) =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const socket = net.connect(port, "127.0.0.1")
      await once(socket, "connect")
      return socket
    }),
    (socket) => Effect.sync(() => socket.destroy())
  )

/** Asks, and holds up the event loop for longer than the deadline before the answer can be read. */
const askHeldUp = (socket: net.Socket) =>
  Effect.callback<void>((resume) => {
    socket.once("data", () => resume(Effect.void))
    socket.write("?")
    setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 600))
  }).pipe(Effect.timeoutOption("300 millis"))

describe("RunningTime", () => {
  it.live("an answer that arrived while the event loop was held up is in time", () =>
    Effect.gen(function* () {
      const socket = yield* connected(yield* echoPort)
      const clock = RunningTime.make(yield* Clock.Clock)
      assert.isTrue(Option.isNone(yield* askHeldUp(socket)), "The ordinary clock gives it up")
      yield* Effect.promise(() => once(socket, "data"))
      assert.isTrue(Option.isSome(yield* Effect.provideService(askHeldUp(socket), Clock.Clock, clock)))
    }).pipe(Effect.scoped)
  )

  it.live("a deadline without an answer passes", () =>
    Effect.gen(function* () {
      const clock = RunningTime.make(yield* Clock.Clock)
      const waited = Effect.timeoutOption(Effect.never, "300 millis")
      assert.isTrue(Option.isNone(yield* Effect.provideService(waited, Clock.Clock, clock)))
    })
  )
})
