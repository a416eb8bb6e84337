/**
 * The shutdown of a node with a hundred sockets that reconnect at once, and with a database that is killed meanwhile. Sockets are closed
 * with 1001, requests get 503 with `Retry-After`, and there are no other errors.
 */
import * as fs from "node:fs/promises"
import type { IncomingMessage } from "node:http"
import { connect, type Socket } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { clientPrefix } from "@greenroom/protocol/api/ClientApi"
import { EmbeddedPostgres } from "@greenroom/store/EmbeddedPostgres"
import { Effect, Exit, Scope } from "effect"
import { WebSocket } from "ws"
import type { Body } from "../support/Curl.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { roomOf, type Scene, sendMessage, succeeded } from "../support/Scene.ts"
import { freePorts, start } from "./support/Cluster.ts"
import { begin, mustHaveNoFork, untilHealthy } from "./support/Workload.ts"

/** How a connection, or the attempt to make one, ended. */
type Ending = `closed with ${number}` | `answered ${number}` | `answered ${number} with Retry-After` | "refused"

/** The delay of a reconnection, in ms. */
const reconnectDelay = 20

/** A client that follows by sockets at each node in turn, and reconnects at once. */
class ReconnectingClient {
  readonly endings: Array<Ending> = []
  readonly texts: Array<string> = []
  private readonly urls: ReadonlyArray<string>
  private readonly token: string
  private from: string
  private turn = 0
  private socket: WebSocket | undefined
  private isOver = false
  private isOpen = false
  private waiting: Array<{ readonly holds: () => boolean; readonly resume: () => void }> = []

  constructor(urls: ReadonlyArray<string>, token: string, from: string) {
    this.urls = urls
    this.token = token
    this.from = from
    this.connect()
  }

  readonly opened = this.until(() => this.isOpen)

  receives(text: string): Effect.Effect<void> {
    return this.until(() => this.texts.includes(text))
  }

  end(): void {
    this.isOver = true
    this.socket?.terminate()
  }

  private until(holds: () => boolean): Effect.Effect<void> {
    return Effect.callback((resume) => {
      this.waiting.push({ holds, resume: () => resume(Effect.void) })
      this.changed()
    })
  }

  private changed(): void {
    for (const { holds, resume } of this.waiting) if (holds()) resume()
  }

  private connect(): void {
    const url = this.urls[this.turn++ % this.urls.length]!
    const query = `access_token=${encodeURIComponent(this.token)}&from=${encodeURIComponent(this.from)}`
    const socket = new WebSocket(`${url.replace("http", "ws")}${clientPrefix}/socket?${query}`, ["m.json"])
    this.socket = socket
    const ended = (ending: Ending) => {
      if (this.socket !== socket || this.isOver) return
      this.socket = undefined
      this.isOpen = false
      this.endings.push(ending)
      setTimeout(() => this.connect(), reconnectDelay)
    }
    socket.once("open", () => {
      this.isOpen = true
      this.changed()
    })
    socket.once("unexpected-response", (request, { headers, statusCode = 0 }: IncomingMessage) => {
      ended(headers["retry-after"] === undefined ? `answered ${statusCode}` : `answered ${statusCode} with Retry-After`)
      request.destroy()
    })
    socket.on("error", () => (this.isOpen ? undefined : ended("refused")))
    socket.once("close", (code) => ended(`closed with ${code}`))
    socket.on("message", (data: Buffer) => {
      const frame = JSON.parse(data.toString())
      if (frame.chunk === undefined) return
      this.from = frame.end
      this.texts.push(
        ...frame.chunk.flatMap(({ content, type }: Body) => (type === "m.room.message" ? [content.body] : []))
      )
      this.changed()
    })
  }
}

const clients = 100

describe("Shutdown of a node", () => {
  it.live(
    "a hundred sockets that reconnect at once receive every message while a node shuts down",
    () =>
      Effect.gen(function* () {
        const [a, b] = (yield* start(2)).nodes as [Scene, Scene]
        const alice = yield* b.register("alice")
        const bobs = yield* Effect.forEach(
          Array.from({ length: 10 }, (_, i) => `bob${i}`),
          (name) => b.register(name)
        )
        const room = yield* roomOf(alice, ...bobs)
        const { end } = succeeded(yield* alice.ask("GET", "/events?timeout=0")).body
        const urls = [a.gateway.url, b.gateway.url]
        const followers = yield* Effect.acquireRelease(
          Effect.sync(() =>
            Array.from({ length: clients }, (_, i) => new ReconnectingClient(urls, bobs[i % bobs.length]!.token, end))
          ),
          (followers) => Effect.sync(() => followers.forEach((client) => void client.end()))
        )
        const all = (what: (client: ReconnectingClient) => Effect.Effect<void>) =>
          Effect.forEach(followers, what, { concurrency: "unbounded", discard: true })
        yield* all(({ opened }) => opened)
        succeeded(yield* sendMessage(alice, room, "before"))
        yield* all((client) => client.receives("before"))

        const [code] = yield* Effect.all(
          [a.gateway.stop, sendMessage(alice, room, "meanwhile").pipe(Effect.map(succeeded))],
          { concurrency: 2 }
        )
        assert.strictEqual(code, 0)
        succeeded(yield* sendMessage(alice, room, "after"))
        yield* all((client) => client.receives("after"))
        for (const { endings, texts } of followers) {
          assert.deepStrictEqual(texts, ["before", "meanwhile", "after"])
          assert.strictEqual(endings[0], "closed with 1001")
        }
        const seen = new Set(followers.flatMap(({ endings }) => endings))
        for (const ending of ["closed with 1001", "answered 503 with Retry-After", "refused"] as const)
          seen.delete(ending)
        assert.deepStrictEqual([...seen], [])
        for (const { gateway } of [a, b]) assert.notInclude(gateway.output(), "failed inside")
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "a shutdown does not wait for connections of other nodes with an unfinished handshake",
    () =>
      Effect.gen(function* () {
        const { clusterPorts, nodes } = yield* start(1)
        const [{ gateway }] = nodes as [Scene]
        yield* Effect.acquireRelease(
          Effect.callback<Socket>((resume) => {
            const socket = connect({ host: "127.0.0.1", port: clusterPorts()[0]! }, () =>
              resume(Effect.succeed(socket))
            )
            socket.on("error", () => socket.destroy())
          }),
          (socket) => Effect.sync(() => socket.destroy())
        )
        assert.strictEqual(yield* gateway.stop, 0)
        assert.notInclude(gateway.output(), "cut off work")
      }).pipe(Effect.scoped),
    60_000
  )

  it.live(
    "a node whose database is killed during its shutdown ends in time, and its replacement serves",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* GatewayProcess.temporaryDirectory
        const settings = { fsync: "off", max_connections: "100" }
        const postgres = yield* EmbeddedPostgres.make({ dataDir, settings })
        const cluster = yield* start(1, { databaseUrl: postgres.url })
        const [port = 0] = yield* freePorts(1)
        const scope = yield* Scope.fork(yield* Effect.scope)
        const leaving = yield* Scope.provide(cluster.start(port), scope)
        const [staying] = cluster.nodes as [Scene]
        let nodes = [staying, leaving]
        const [alice, bob] = [yield* staying.register("alice"), yield* leaving.register("bob")]
        const room = yield* roomOf(alice, bob)
        const load = yield* begin({
          room,
          sender: alice,
          followers: [alice, bob],
          onSockets: [bob],
          entries: () => nodes
        })
        yield* load.more(10)
        const killed = Effect.promise(async () => {
          const pid = await fs.readFile(`${dataDir}/postgres/postmaster.pid`, "utf8")
          process.kill(Number.parseInt(pid, 10), "SIGKILL")
        })
        yield* Effect.all([leaving.gateway.stop, killed], { concurrency: 2 })
        yield* Scope.close(scope, Exit.void)
        nodes = [staying]
        yield* load.more(10)
        nodes = [staying, yield* cluster.start(port)]
        yield* untilHealthy(nodes)
        yield* load.more(10)
        yield* load.finish
        yield* mustHaveNoFork(postgres.url, room)
        for (const { gateway } of nodes) assert.notInclude(gateway.output(), "failed inside")
      }).pipe(Effect.scoped),
    180_000
  )
})
