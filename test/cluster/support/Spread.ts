/** Forwards TCP connections to the next of several addresses that accepts them, as a load balancer in front of port 8448 does. */
import * as net from "node:net"
import { Effect } from "effect"

export interface Address {
  readonly host: string
  readonly port: number
}

/** Listens on loopback until the scope closes. Returns the port. */
export const start = (targets: ReadonlyArray<Address>, port = 0) =>
  Effect.acquireRelease(
    Effect.callback<{ readonly server: net.Server; readonly sockets: Set<net.Socket> }>((resume) => {
      const sockets = new Set<net.Socket>()
      let turn = 0
      const pass = (incoming: net.Socket, tries: number): void => {
        const outgoing = net.connect({ ...targets[turn++ % targets.length]!, timeout: 2_000 })
        let isThrough = false
        const fail = () => {
          outgoing.destroy()
          if (isThrough || tries === 0) incoming.destroy()
          else pass(incoming, tries - 1)
        }
        outgoing.once("error", fail).once("timeout", () => (isThrough ? undefined : fail()))
        outgoing.once("connect", () => {
          isThrough = true
          outgoing.setTimeout(0)
          incoming.pipe(outgoing).pipe(incoming)
        })
        outgoing.once("close", () => (isThrough ? incoming.destroy() : undefined))
        incoming.once("close", () => outgoing.destroy())
      }
      const server = net.createServer((incoming) => {
        sockets.add(incoming.on("error", () => incoming.destroy()))
        incoming.once("close", () => sockets.delete(incoming))
        pass(incoming, targets.length)
      })
      server.listen(port, "127.0.0.1", () => resume(Effect.succeed({ server, sockets })))
    }),
    ({ server, sockets }) =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        for (const socket of sockets) socket.destroy()
      })
  ).pipe(Effect.map(({ server }) => (server.address() as net.AddressInfo).port))
