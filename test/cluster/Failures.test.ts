/** Nodes are killed, stopped and added: no acknowledged message is lost, and other nodes serve the rooms of a lost node. */
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import type { Body } from "../support/Curl.ts"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import { waitFor } from "../support/Polling.ts"
import { type Person, roomOf, type Scene, sendMessage, succeeded } from "../support/Scene.ts"
import { at, start } from "./support/Cluster.ts"

const textsOf = (person: Person, room: string) =>
  Effect.map(
    person.ask("GET", `/rooms/${encodeURIComponent(room)}/messages?from=END&dir=b&limit=100`),
    (answer) => succeeded(answer).body.chunk.flatMap((event: Body) => event.content.body ?? []) as Array<string>
  )

const isPresence =
  ({ userId }: Person, presence: string) =>
  (event: Body): boolean =>
    event.type === "m.presence" && event.content.user_id === userId && event.content.presence === presence

describe("Loss of nodes", () => {
  it.live(
    "other nodes serve the rooms of a killed node, and a stopping node answers its long polls",
    () =>
      Effect.gen(function* () {
        const cluster = yield* start(3)
        const [a, b, c] = cluster.nodes as [Scene, Scene, Scene]
        const alice = yield* b.register("alice")
        const rooms = yield* Effect.forEach(Array.from({ length: 24 }), () => roomOf(alice), { concurrency: 8 })
        const sendToAll = (node: Scene, text: string) =>
          Effect.forEach(rooms, (room) => sendMessage(at(node, alice), room, text), { concurrency: "unbounded" })

        const acknowledged = yield* sendToAll(a, "before")
        for (const answer of acknowledged) succeeded(answer)
        // Bob is connected to the node that is killed later, and types in rooms of all nodes.
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
        // The node that receives a request repeats the message to the room actor until another node has the room.
        const posts = Effect.forEach(
          rooms,
          (room) =>
            at(b, alice).ask("POST", `/rooms/${encodeURIComponent(room)}/send/m.room.message`, {
              msgtype: "m.text",
              body: "posted"
            }),
          { concurrency: "unbounded" }
        )
        const sent = yield* Effect.all([sendToAll(b, "killed"), posts], { concurrency: 2 })
        for (const answer of sent.flat()) succeeded(answer)

        yield* waitFor((path) => alice.ask("GET", path), beforeKill, isPresence(bob, "offline"))
        // Bob's typing ends in the rooms of the killed node, and continues in the others.
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
        for (const answer of yield* sendToAll(b, "stopped")) succeeded(answer)

        const d = yield* cluster.start()
        for (const answer of yield* sendToAll(d, "joined")) succeeded(answer)
        for (const room of rooms) {
          const texts = yield* textsOf(at(d, alice), room)
          assert.lengthOf(texts, 5)
          assert.deepStrictEqual(
            texts.filter((text) => text !== "posted"),
            ["joined", "stopped", "killed", "before"]
          )
        }
        assert.notInclude(b.gateway.output() + d.gateway.output(), "Internal error while answering a request")
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "another node without a connection to a paused node serves its rooms",
    () =>
      Effect.gen(function* () {
        const [a, b] = (yield* start(2)).nodes as [Scene, Scene]
        const alice = yield* b.register("alice")
        const rooms = yield* Effect.forEach(Array.from({ length: 24 }), () => roomOf(alice), { concurrency: 8 })
        yield* b.gateway.pause
        const answers = yield* Effect.forEach(rooms, (room) => sendMessage(at(a, alice), room, "meanwhile"), {
          concurrency: "unbounded"
        })
        yield* b.gateway.resume
        for (const answer of answers) succeeded(answer)
      }).pipe(Effect.scoped),
    120_000
  )

  it.live(
    "a process without --cluster cannot use the database of a cluster, and a node cannot use that of a process",
    () =>
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
