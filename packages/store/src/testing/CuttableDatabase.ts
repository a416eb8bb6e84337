/**
 * A proxy to a PostgreSQL that a test can cut: its clients lose all connections, and get none until it is mended. Cut in silence, it
 * accepts connections and never answers. After it is mended only new connections are answered. It notes the statements that pass.
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
  /** Refuses new connections. Those that are there stay. */
  readonly refuse: Effect.Effect<void>
  readonly silence: Effect.Effect<void>
  /** How many connections were taken in silence. */
  readonly held: () => number
  readonly mend: Effect.Effect<void>
  /** The statements that passed since the last call. */
  readonly takeStatements: () => ReadonlyArray<string>
}

/** Calls `note` with each statement of a client (messages Query, Parse and Bind of PostgreSQL's protocol). */
const readStatements = (client: net.Socket, note: (statement: string) => void): void => {
  const prepared = new Map<string, string>()
  let rest = Buffer.alloc(0)
  let isStarted = false
  const textAt = (message: Buffer, from: number) => message.toString("utf8", from, message.indexOf(0, from))
  const read = (type: string, message: Buffer) => {
    if (type === "Q") note(textAt(message, 0))
    if (type === "P") {
      const name = textAt(message, 0)
      prepared.set(name, textAt(message, Buffer.byteLength(name) + 1))
    }
    if (type === "B") {
      const portal = textAt(message, 0)
      note(prepared.get(textAt(message, Buffer.byteLength(portal) + 1)) ?? "a statement that was not seen")
    }
  }
  client.on("data", (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk])
    // The first message has no type.
    for (let at = isStarted ? 1 : 0; rest.length >= at + 4; at = 1) {
      const end = at + rest.readInt32BE(at)
      if (rest.length < end) return
      if (isStarted) read(String.fromCharCode(rest[0]!), rest.subarray(at + 4, end))
      isStarted = true
      rest = rest.subarray(end)
    }
  })
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
      let statements: Array<string> = []
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
        readStatements(client, (statement) => statements.push(statement))
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
        refuse: Effect.sync(() => {
          isCut = true
        }),
        silence: Effect.sync(() => {
          cut()
          isSilent = true
        }),
        held: () => held,
        mend: Effect.sync(() => {
          isCut = false
          isSilent = false
        }),
        takeStatements: () => {
          const taken = statements
          statements = []
          return taken
        },
        close: async () => {
          cut()
          server.close()
          await fs.rm(directory, { recursive: true })
        }
      }
    }),
    ({ close }) => Effect.promise(close)
  )
