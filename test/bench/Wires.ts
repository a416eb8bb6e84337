/** What goes over the wires of a cluster, and when: statements to PostgreSQL, and messages between nodes. */
import * as net from "node:net"
import { type CuttableDatabase, make } from "@greenroom/store/testing/CuttableDatabase"
import { Effect, Exit, Redacted, Scope } from "effect"
import type { Postgres } from "./Postgres.ts"

/** A time in which something was measured, in ms since 1970. */
export interface Interval {
  readonly from: number
  readonly until: number
}

/** How often statements are fetched from the proxy, in ms: times are known as exactly. */
const interval = 20

/** The address at which nodes reach each other through the proxy. They listen on another of the same machine. */
const proxyHost = "127.0.0.2"

/** A record of TLS that holds what an application has written. */
const applicationData = 23

/** The name of the protocol of links between nodes, as it stands in the first message of a connection (`NodeLinks`). */
const linkProtocol = "greenroom/1"

/** The statements of Effect's cluster itself (docs/scaling.md lists them). */
const isOfEffect = (statement: string): boolean => /cluster_runners|cluster_locks|pg_locks|advisory/.test(statement)

/** Calls `note` for each record of a connection of TLS. */
const readRecords = (socket: net.Socket, note: (type: number, body: Buffer) => void): void => {
  let rest = Buffer.alloc(0)
  socket.on("data", (chunk: Buffer) => {
    rest = Buffer.concat([rest, chunk])
    while (rest.length >= 5 && rest.length >= 5 + rest.readUInt16BE(3)) {
      const end = 5 + rest.readUInt16BE(3)
      note(rest[0]!, rest.subarray(5, end))
      rest = rest.subarray(end)
    }
  })
}

export class Wires implements AsyncDisposable {
  private readonly scope: Scope.Closeable
  private readonly database: CuttableDatabase
  private readonly proxies: Array<net.Server> = []
  private readonly timer: NodeJS.Timeout
  private readonly statements: Array<{ readonly at: number; readonly text: string }> = []
  /** When each message went over a link. */
  private readonly messages: Array<number> = []

  private constructor(scope: Scope.Closeable, database: CuttableDatabase) {
    this.scope = scope
    this.database = database
    this.timer = setInterval(() => this.takeStatements(), interval)
  }

  static async make(postgres: Postgres): Promise<Wires> {
    const scope = await Effect.runPromise(Scope.make())
    const database = await Effect.runPromise(
      Effect.provideService(make(Redacted.make(postgres.url)), Scope.Scope, scope)
    )
    return new Wires(scope, database)
  }

  /** The URL of PostgreSQL whose statements are noted. */
  get databaseUrl(): string {
    return Redacted.value(this.database.url)
  }

  /** The host by which others reach the node that listens on 127.0.0.1. */
  async toNode(port: number): Promise<string> {
    const proxy = net.createServer((client) => {
      const node = net.connect(port, "127.0.0.1")
      let isLink = false
      for (const socket of [client, node]) {
        readRecords(socket, (type, body) => {
          if (type === applicationData && isLink) this.messages.push(Date.now())
          else if (type !== applicationData) isLink ||= body.includes(linkProtocol)
        })
      }
      client.on("error", () => node.destroy()).on("close", () => node.destroy())
      node.on("error", () => client.destroy()).on("close", () => client.destroy())
      client.pipe(node).pipe(client)
    })
    this.proxies.push(proxy)
    await new Promise<void>((resolve) => proxy.listen(port, proxyHost, resolve))
    return proxyHost
  }

  /** Our own statements in the interval. */
  ownStatements({ from, until }: Interval): ReadonlyArray<string> {
    this.takeStatements()
    return this.statements
      .filter(({ at, text }) => at >= from && at < until && !isOfEffect(text))
      .map(({ text }) => text)
  }

  /** How many messages, answers included, nodes sent each other in the interval. */
  messagesIn({ from, until }: Interval): number {
    return this.messages.filter((at) => at >= from && at < until).length
  }

  private takeStatements(): void {
    const at = Date.now()
    for (const text of this.database.takeStatements()) this.statements.push({ at, text })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.timer)
    for (const proxy of this.proxies) proxy.close()
    await Effect.runPromise(Scope.close(this.scope, Exit.void))
  }
}
