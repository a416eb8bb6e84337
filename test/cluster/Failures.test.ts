/**
 * Nodes come and go: what was acknowledged is there, and the rooms of a node that is gone answer at the others.
 */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import type { Body } from "../support/Curl.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { waitFor } from "../support/Polling.ts"
import { type Person, roomOf, type Scene, succeeded } from "../support/Scene.ts"
import { at, start } from "./support/Cluster.ts"

const say = (person: Person, room: string, transaction: string) =>
  person.ask("PUT", `/rooms/${encodeURIComponent(room)}/send/m.room.message/${transaction}`, {
    msgtype: "m.text",
    body: transaction
  })

const textsOf = (person: Person, room: string) =>
  Effect.map(
    person.ask("GET", `/rooms/${encodeURIComponent(room)}/messages?from=END&dir=b&limit=100`),
    (answer) => succeeded(answer).body.chunk.flatMap((event: Body) => event.content.body ?? []) as Array<string>
  )

const isPresence =
  ({ userId }: Person, presence: string) =>
  (event: Body): boolean =>
    event.type === "m.presence" && event.content.user_id === userId && event.content.presence === presence

describe("a cluster of which nodes are lost", () => {
  it.live(
    "a killed node's rooms answer at the others, and a node that is stopped lets its clients go elsewhere",
    () =>
      Effect.gen(function* () {
        const cluster = yield* start(3)
        const [a, b, c] = cluster.nodes as [Scene, Scene, Scene]
        const alice = yield* b.register("alice")
        const rooms = yield* Effect.forEach(Array.from({ length: 24 }), () => roomOf(alice), { concurrency: 8 })
        const sayInAll = (node: Scene, text: string) =>
          Effect.forEach(rooms, (room) => say(at(node, alice), room, text), { concurrency: "unbounded" })

        const acknowledged = yield* sayInAll(a, "before")
        for (const answer of acknowledged) succeeded(answer)
        // Bob is connected to the node that will be killed, and types in rooms of all nodes.
        const bob = yield* b.register("bob")
        for (const room of rooms) succeeded(yield* alice.ask("POST", `/rooms/${room}/invite`, { user_id: bob.userId }))
        for (const room of rooms) succeeded(yield* bob.ask("POST", `/rooms/${room}/join`, {}))
        const typing = (room: string, whether: object) =>
          bob.ask("PUT", `/rooms/${encodeURIComponent(room)}/typing/${encodeURIComponent(bob.userId)}`, whether)
        for (const room of rooms) succeeded(yield* typing(room, { typing: true, timeout: 120_000 }))
        yield* Effect.forkChild(Effect.exit(at(a, bob).ask("GET", "/events?timeout=600000")), {
          startImmediately: true
        })
        const { end: beforeKill } = yield* waitFor((path) => alice.ask("GET", path), "START", isPresence(bob, "online"))
        yield* a.gateway.kill
        // Sends with transaction IDs are repeated by the node that got them, until another node has the room.
        for (const answer of yield* sayInAll(b, "killed")) succeeded(answer)

        yield* waitFor((path) => alice.ask("GET", path), beforeKill, isPresence(bob, "offline"))
        // In the rooms of the other nodes bob types on.
        yield* waitFor(
          (path) => alice.ask("GET", path),
          beforeKill,
          (event) => event.type === "m.typing" && event.content.user_ids.length === 0
        )

        const from = (yield* at(c, alice).ask("GET", "/events?timeout=0")).body.end
        const poll = yield* Effect.forkChild(at(c, alice).ask("GET", `/events?from=${from}&timeout=60000`), {
          startImmediately: true
        })
        yield* at(c, alice).ask("GET", "/initialSync?limit=0")
        assert.strictEqual(yield* c.gateway.stop, 0)
        const polled = yield* Fiber.join(poll)
        assert.deepStrictEqual([polled.status, polled.body.chunk, polled.body.end], [200, [], from])
        for (const answer of yield* sayInAll(b, "stopped")) succeeded(answer)

        const d = yield* cluster.start()
        for (const answer of yield* sayInAll(d, "joined")) succeeded(answer)
        for (const room of rooms) {
          assert.deepStrictEqual(yield* textsOf(at(d, alice), room), ["joined", "stopped", "killed", "before"])
        }
        assert.notInclude(b.gateway.output() + d.gateway.output(), "A request failed inside")
      }).pipe(Effect.scoped),
    120_000
  )

  it.live("a process without --cluster is refused on the database of a cluster, and a node on that of a process", () =>
    Effect.gen(function* () {
      const cluster = yield* start(1)
      const options = { dataDir: yield* GatewayProcess.temporaryDirectory, databaseUrl: cluster.databaseUrl }
      const refused = yield* Effect.exit(GatewayProcess.start(options))
      assert.match(String(refused), /The nodes of a cluster use this database.*start this one with --cluster too/)
      yield* cluster.nodes[0]!.gateway.stop
      yield* GatewayProcess.start(options)
      assert.match(
        String(yield* Effect.exit(cluster.start())),
        /Process \d+ on .*, another Greenroom, uses this database/
      )
    }).pipe(Effect.scoped)
  )
})
