/**
 * Both ends of a WebSocket, for tests of what the server does with its end.
 */
import type { AddressInfo } from "node:net"
import { Effect } from "effect"
import { WebSocket, WebSocketServer } from "ws"

/** An open WebSocket: the end of the client, and the end of the server. Closed with the scope. */
export const socketPair = Effect.gen(function* () {
  const listener = yield* Effect.acquireRelease(
    Effect.callback<WebSocketServer>((resume) => {
      const listening: WebSocketServer = new WebSocketServer({ host: "127.0.0.1", port: 0 }, () =>
        resume(Effect.succeed(listening))
      )
    }),
    (listening) => Effect.sync(() => listening.close())
  )
  const accepted = Effect.callback<WebSocket>((resume) => {
    listener.once("connection", (socket) => resume(Effect.succeed(socket)))
  })
  const client = yield* Effect.acquireRelease(
    Effect.sync(() => new WebSocket(`ws://127.0.0.1:${(listener.address() as AddressInfo).port}`)),
    (socket) => Effect.sync(() => socket.terminate())
  )
  const opened = Effect.callback<void>((resume) => {
    client.once("open", () => resume(Effect.void))
  })
  const [server] = yield* Effect.all([accepted, opened], { concurrency: "unbounded" })
  return { client, server }
})

export type SocketPair = Effect.Success<typeof socketPair>
