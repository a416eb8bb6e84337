/**
 * Requests that a node has begun to handle when it is paused. Their client repeats them at another node and makes later changes there. The
 * first node, which continues after others have its shards, writes nothing stale.
 */
import * as net from "node:net"
import { assert, it } from "@effect/vitest"
import { Effect, Schedule } from "effect"
import { type Person, roomOf, type Scene, succeeded } from "../support/Scene.ts"
import { at, start } from "./support/Cluster.ts"
import * as HalfRequest from "./support/HalfRequest.ts"
import { movedShards, persistently, query, untilHealthy } from "./support/Workload.ts"

/** Changes without a transaction ID: the path, and the body that sets a value. */
const settings = ({ userId }: Person, room: string) => {
  const [user, inRoom] = [encodeURIComponent(userId), encodeURIComponent(room)]
  const v3 = "/_matrix/client/v3"
  const plain = (value: string) => ({ value })
  return [
    { path: `${v3}/user/${user}/account_data/org.example.value`, body: plain },
    { path: `${v3}/user/${user}/rooms/${inRoom}/account_data/org.example.value`, body: plain },
    {
      path: `${v3}/user/${user}/rooms/${inRoom}/tags/u.work`,
      read: `${v3}/user/${user}/rooms/${inRoom}/tags`,
      body: plain
    },
    { path: `${v3}/profile/${user}/displayname`, body: (displayname: string) => ({ displayname }) },
    { path: `${v3}/rooms/${inRoom}/state/m.room.topic/`, body: (topic: string) => ({ topic }) },
    {
      path: `${v3}/pushrules/global/content/tea`,
      body: (pattern: string) => ({ pattern, actions: ["notify"] })
    }
  ]
}

/** Asserts that all nodes return the new values. */
const assertNew = Effect.fnUntraced(function* (
  nodes: ReadonlyArray<Scene>,
  person: Person,
  changes: ReturnType<typeof settings>
) {
  for (const node of nodes) {
    for (const { path, read = path } of changes) {
      const { text } = succeeded(yield* at(node, person).ask("GET", `/${read}`))
      assert.include(text, "new")
      assert.notInclude(text, "old", path)
    }
  }
})

it.live(
  "a node that is paused in the middle of requests does not overwrite values that were set at another node meanwhile",
  () =>
    Effect.gen(function* () {
      const { databaseUrl, nodes } = yield* start(2)
      const [a, b] = nodes as [Scene, Scene]
      const alice = yield* a.register("alice")
      const room = yield* roomOf(alice)
      const changes = settings(alice, room)
      const begun = yield* Effect.forEach(changes, ({ body, path }) =>
        HalfRequest.begin(a, alice, "PUT", path, body("old"))
      )
      // The node has read the earlier requests.
      for (let i = 0; i < 3; i++) succeeded(yield* alice.ask("GET", "/events?timeout=0"))

      const moved = yield* movedShards(databaseUrl)
      yield* a.gateway.pause
      yield* moved
      // Shards that are still moving to the other node give 503 with Retry-After.
      for (const { body, path } of changes) {
        succeeded(yield* persistently(() => at(b, alice).ask("PUT", `/${path}`, body("new"))))
      }
      for (const { finish } of begun) yield* finish
      yield* a.gateway.resume

      for (const [index, { answered }] of begun.entries()) {
        const answer = yield* answered
        assert.strictEqual(answer.status, 503, changes[index]!.path)
        assert.isDefined(answer.retryAfter)
      }
      yield* untilHealthy(nodes)
      yield* assertNew(nodes, alice, changes)
      // The node serves again, and keeps its connections.
      for (const { body, path } of changes) {
        succeeded(yield* persistently(() => alice.ask("PUT", `/${path}`, body("newest"))))
      }
      // Shards that move back to it have no holder for a moment.
      const unheld = query(databaseUrl, "SELECT count(*)::integer AS count FROM shard_fences WHERE holder IS NULL")
      yield* Effect.repeat(unheld, { until: ([left]) => left.count === 0, schedule: Schedule.spaced("200 millis") })
      for (const { gateway } of nodes) assert.notInclude(gateway.output(), "failed inside")
    }).pipe(Effect.scoped),
  120_000
)

/** Sends a request to a node and closes the connection without reading the answer. The node may be paused. */
const sendAndLeave = ({ gateway }: Scene, { token }: Person, path: string, data: object) =>
  Effect.promise(
    () =>
      new Promise<void>((resolve, reject) => {
        const { hostname, port } = new URL(gateway.url)
        const body = JSON.stringify(data)
        const head = `PUT ${path} HTTP/1.1\r\nhost: ${hostname}\r\nauthorization: Bearer ${token}\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n`
        const socket = net.connect(Number(port), hostname).once("error", reject)
        socket.end(head + body, resolve)
      })
  )

it.live(
  "requests that were sent to a paused node do not overwrite values that were set at another node since",
  () =>
    Effect.gen(function* () {
      const { databaseUrl, nodes } = yield* start(2)
      const [a, b] = nodes as [Scene, Scene]
      const alice = yield* a.register("alice")
      const room = yield* roomOf(alice)
      const changes = settings(alice, room)
      for (const { body, path } of changes) succeeded(yield* alice.ask("PUT", `/${path}`, body("first")))

      const moved = yield* movedShards(databaseUrl)
      yield* a.gateway.pause
      // Reading these requests takes the node longer than getting its shards back.
      for (let i = 0; i < 60; i++) {
        for (const { body, path } of changes) yield* sendAndLeave(a, alice, path, body("old"))
      }
      yield* moved
      for (const { body, path } of changes) {
        succeeded(yield* persistently(() => at(b, alice).ask("PUT", `/${path}`, body("new"))))
      }
      yield* a.gateway.resume
      yield* untilHealthy(nodes)
      // The node has handled all requests.
      for (let i = 0; i < 3; i++) succeeded(yield* alice.ask("GET", "/events?timeout=0"))
      yield* assertNew(nodes, alice, changes)
      for (const { gateway } of nodes) assert.notInclude(gateway.output(), "failed inside")
    }).pipe(Effect.scoped),
  120_000
)
