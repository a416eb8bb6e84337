/** The network link from one home server to another: a TCP proxy on loopback that a test can cut and mend. */
import { type AddressInfo, connect, createServer, type Socket } from "node:net"
import { Effect, type Scope } from "effect"

export interface Link {
  /** The port on which the proxy listens. */
  readonly port: number
  /** Closes all connections, and refuses new ones. */
  readonly cut: Effect.Effect<void>
  readonly mend: Effect.Effect<void>
}

/** Starts a link to a port. It ends with the scope. */
export const linkTo = (target: number): Effect.Effect<Link, never, Scope.Scope> =>
  Effect.gen(function* () {
    const sockets = new Set<Socket>()
    let isCut = false
    const keep = (socket: Socket) => {
      sockets.add(socket)
      socket.on("error", () => {})
      socket.once("close", () => sockets.delete(socket))
    }
    const server = createServer((near) => {
      keep(near)
      if (isCut) return near.destroy()
      const far = connect(target, "127.0.0.1")
      keep(far)
      near.pipe(far).pipe(near)
      near.once("close", () => far.destroy())
      far.once("close", () => near.destroy())
      return undefined
    })
    const end = () => {
      for (const socket of sockets) socket.destroy()
    }
    yield* Effect.acquireRelease(
      Effect.callback<void>((resume) => {
        server.listen(0, "127.0.0.1", () => resume(Effect.void))
      }),
      () =>
        Effect.sync(() => {
          server.close()
          end()
        })
    )
    return {
      port: (server.address() as AddressInfo).port,
      cut: Effect.sync(() => {
        isCut = true
        end()
      }),
      mend: Effect.sync(() => {
        isCut = false
      })
    }
  })
