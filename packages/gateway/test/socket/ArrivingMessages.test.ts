/** Messages that never end take a bounded memory, of all sockets together and of each. */
import type { AddressInfo } from "node:net"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { WebSocket, WebSocketServer } from "ws"
import { ArrivingMessages } from "../../src/socket/ArrivingMessages.ts"
import { gateway, register } from "../TestGateway.ts"
import { connect } from "./TestSocket.ts"

/** A server that counts the messages of all its sockets together, and answers each whole one. */
const countingServer = (limit: number) =>
  Effect.acquireRelease(
    Effect.callback<WebSocketServer>((resume) => {
      const arriving = new ArrivingMessages(limit)
      const server: WebSocketServer = new WebSocketServer({ host: "127.0.0.1", port: 0 }, () =>
        resume(Effect.succeed(server))
      )
      server.on("connection", (socket, request) => {
        arriving.watch(socket, request.socket)
        socket.on("message", (data: Buffer) => socket.send(String(data.length)))
      })
    }),
    (server) => Effect.sync(() => server.close())
  )

const openTo = Effect.fnUntraced(function* (server: WebSocketServer) {
  const { port } = server.address() as AddressInfo
  const socket = yield* Effect.acquireRelease(
    Effect.sync(() => new WebSocket(`ws://127.0.0.1:${port}`)),
    (socket) => Effect.sync(() => socket.terminate())
  )
  yield* Effect.callback<void>((resume) => {
    socket.once("open", () => resume(Effect.void))
  })
  return socket
})

const answer = (socket: WebSocket) =>
  Effect.callback<string>((resume) => {
    socket.once("message", (data: Buffer) => resume(Effect.succeed(data.toString())))
  })

const closed = (socket: WebSocket) =>
  Effect.callback<void>((resume) => {
    if (socket.readyState === socket.CLOSED) return resume(Effect.void)
    socket.once("close", () => resume(Effect.void))
  })

describe("messages that have not arrived whole", () => {
  it.live("are bounded together: the socket of the oldest is closed, and those whose messages ended stay", () =>
    Effect.gen(function* () {
      const server = yield* countingServer(100_000)
      const [busy, first, second] = [yield* openTo(server), yield* openTo(server), yield* openTo(server)]
      for (let sent = 0; sent < 20; sent++) {
        busy.send(Buffer.alloc(40_000))
        assert.strictEqual(yield* answer(busy), "40000")
      }
      first.send(Buffer.alloc(60_000), { fin: false })
      busy.send("x")
      yield* answer(busy)
      const firstClosed = yield* Effect.forkChild(closed(first))
      second.send(Buffer.alloc(60_000), { fin: false })
      yield* Fiber.join(firstClosed)
      second.send(Buffer.alloc(10))
      assert.strictEqual(yield* answer(second), "60010")
      busy.send("xy")
      assert.strictEqual(yield* answer(busy), "2")
    })
  )
})

layer(gateway, { excludeTestServices: true })("a message in very many fragments", (it) => {
  it.effect("closes its socket", () =>
    Effect.gen(function* () {
      const { closed, socket } = yield* connect(yield* register("fragments"), "m.json")
      const ended = yield* Effect.forkChild(closed)
      for (let sent = 0; sent < 2_000; sent++) socket.send('"', { fin: false })
      assert.strictEqual((yield* Fiber.join(ended)).code, 1008)
    })
  )
})
