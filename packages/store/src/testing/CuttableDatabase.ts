/**
 * A proxy to a PostgreSQL that can be cut: its clients lose all connections, and get none until it is mended. Cut
 * in silence, it takes connections and never answers, also when it is mended: those that are made then are answered.
 */
import * as fs from "node:fs/promises"
import * as net from "node:net"
import * as os from "node:os"
import * as path from "node:path"
import { Effect, Redacted, type Scope } from "effect"

export interface CuttableDatabase {
  /** The URL of the database through the proxy. */
  readonly url: Redacted.Redacted
  readonly cut: Effect.Effect<void>
  readonly silence: Effect.Effect<void>
  /** How many connections were taken in silence. */
  readonly held: () => number
  readonly mend: Effect.Effect<void>
}

/** `url` names a server by the directory of its Unix socket. */
export const make = (url: Redacted.Redacted): Effect.Effect<CuttableDatabase, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const original = new URL(Redacted.value(url))
      const socketName = `.s.PGSQL.${original.searchParams.get("port")}`
      const target = path.join(original.searchParams.get("host")!, socketName)
      const directory = await fs.mkdtemp(path.join(os.tmpdir(), "greenroom-way-"))
      const connections = new Set<net.Socket>()
      let isCut = false
      let isSilent = false
      let held = 0
      const server = net.createServer((client) => {
        if (isSilent) {
          held++
          connections.add(client.on("error", () => undefined))
          return
        }
        if (isCut) {
          client.destroy()
          return
        }
        const upstream = net.connect(target)
        for (const socket of [client, upstream]) {
          connections.add(socket)
          socket.on("error", () => undefined).on("close", () => connections.delete(socket))
        }
        client.pipe(upstream).pipe(client)
      })
      await new Promise<void>((resolve) => server.listen(path.join(directory, socketName), resolve))
      original.searchParams.set("host", directory)
      const cut = () => {
        isCut = true
        for (const socket of connections) socket.destroy()
      }
      return {
        url: Redacted.make(original.href),
        cut: Effect.sync(cut),
        silence: Effect.sync(() => {
          cut()
          isSilent = true
        }),
        held: () => held,
        mend: Effect.sync(() => {
          isCut = false
          isSilent = false
        }),
        close: async () => {
          cut()
          server.close()
          await fs.rm(directory, { recursive: true })
        }
      }
    }),
    ({ close }) => Effect.promise(close)
  )
