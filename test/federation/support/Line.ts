/**
 * The line from one home server to another: TCP on loopback, which a test can cut and mend.
 */
import { type AddressInfo, connect, createServer, type Socket } from "node:net"
import { Effect, type Scope } from "effect"

export interface Line {
  /** The port at which the line begins. */
  readonly port: number
  /** Ends all connections, and those that are tried from now on. */
  readonly cut: Effect.Effect<void>
  readonly mend: Effect.Effect<void>
}

/** A line to a port. */
export const lineTo = (target: number): Effect.Effect<Line, never, Scope.Scope> =>
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
