/** Connections through a relay that falls silent: it passes on so many bytes of answers more, and then none. */
import * as net from "node:net"
import { Effect, Queue } from "effect"

export interface Relay {
  readonly port: number
  /** Falls silent after so many more bytes of answers. */
  readonly silence: (after: number) => void
  /** What comes to the silent relay: parts of requests, and of answers that it keeps back. */
  readonly kept: Queue.Queue<"request" | "answer">
}

/** A relay to a port of this machine, until the scope ends. */
export const relay = Effect.fnUntraced(function* (to: number) {
  const kept = yield* Queue.unbounded<"request" | "answer">()
  let left = Number.POSITIVE_INFINITY
  const sockets = new Set<net.Socket>()
  const server = net.createServer((client) => {
    const upstream = net.connect(to, "127.0.0.1")
    for (const socket of [client, upstream]) {
      sockets.add(socket)
      socket.on("error", () => socket.destroy()).once("close", () => sockets.delete(socket))
    }
    client.once("close", () => upstream.destroy())
    // The end of an answer is kept back too.
    upstream.once("close", () => left > 0 && client.destroy())
    client.on("data", (chunk) => {
      if (left === 0) Queue.offerUnsafe(kept, "request")
      upstream.write(chunk)
    })
    upstream.on("data", (chunk) => {
      const passed = chunk.subarray(0, left)
      if (passed.length > 0) client.write(passed)
      left -= passed.length
      if (passed.length < chunk.length) Queue.offerUnsafe(kept, "answer")
    })
  })
  const port = yield* Effect.acquireRelease(
    Effect.callback<number>((resume) => {
      server.listen(0, "127.0.0.1", () => resume(Effect.succeed((server.address() as net.AddressInfo).port)))
    }),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        for (const socket of sockets) socket.destroy()
      })
  )
  return {
    port,
    silence: (after) => {
      left = after
    },
    kept
  } satisfies Relay
})
