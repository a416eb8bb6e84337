/**
 * Receipts that a server sends to others, with kills and outages of both sides.
 *
 * Source: "Receipts" of the server-server specification.
 */
import { assert, layer, vi } from "@effect/vitest"
import { Context, Effect, Layer } from "effect"
import type { Body } from "../support/Curl.ts"
import type { Person } from "../support/Scene.ts"
import {
  createRoom,
  endBackoff,
  expectOk,
  type HomeServer,
  join,
  type Network,
  network,
  reads,
  say
} from "./support/Network.ts"

vi.setConfig({ testTimeout: 120_000 })

class Servers extends Context.Service<Servers, Network>()("greenroom/test/Servers") {
  static readonly layer = Layer.effect(Servers, network(["red.test", "blue.test"]))
}

let scenes = 0

/** Alice and Andrew of red, and Bob of blue, in one room, in which Bob has messages three things that red has. */
const scene = Effect.gen(function* () {
  const { cut, mend, servers } = yield* Servers
  const [red, blue] = servers as [HomeServer, HomeServer]
  const number = ++scenes
  const alice = yield* red.register(`alice${number}`)
  const andrew = yield* red.register(`andrew${number}`)
  const bob = yield* blue.register(`bob${number}`)
  const { room_alias, room_id } = yield* createRoom(alice, { visibility: "public", room_alias_name: `square${number}` })
  for (const person of [andrew, bob]) yield* join(person, room_alias)
  const messages = [yield* say(bob, room_id, "one"), yield* say(bob, room_id, "two"), yield* say(bob, room_id, "three")]
  yield* reads(alice, room_id, "three")
  return { alice, andrew, blue, bob, cut: cut(red, blue), mend: mend(red, blue), red, room_id, messages }
})

const readUpTo = (person: Person, roomId: string, eventId: string, content: Body = {}) =>
  expectOk(
    person.ask(
      "POST",
      `//_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/receipt/m.read/${encodeURIComponent(eventId)}`,
      content
    )
  )

/** The receipts of a user in the room that the viewer gets: event IDs, and threads if any. */
const receiptsOf = (viewer: Person, roomId: string, userId: string): Effect.Effect<ReadonlyArray<string>> =>
  Effect.map(expectOk(viewer.ask("GET", "//_matrix/client/v3/sync")), ({ rooms }) =>
    (rooms.join[roomId].ephemeral.events as ReadonlyArray<Body>)
      .filter(({ type }) => type === "m.receipt")
      .flatMap(({ content }) =>
        Object.entries<Body>(content).flatMap(([eventId, { "m.read": users = {} }]) =>
          users[userId] === undefined ? [] : [`${eventId} ${users[userId].thread_id ?? ""}`.trim()]
        )
      )
      .sort()
  )

const untilShown = (viewer: Person, roomId: string, userId: string, receipts: ReadonlyArray<string>) =>
  Effect.repeat(receiptsOf(viewer, roomId, userId), {
    until: (shown) => `${shown}` === `${receipts.toSorted()}`
  })

/** The servers for which receipts of the room wait, among them those that are not queued yet. */
const waiting = (server: HomeServer, roomId: string) =>
  Effect.map(
    server.select(`
      SELECT destination FROM outgoing_receipts JOIN rooms USING (room_nid) WHERE room_id = '${roomId}'
      UNION ALL SELECT 'all' FROM receipts JOIN rooms USING (room_nid), receipt_progress progress
      WHERE room_id = '${roomId}' AND (receipts.xid, receipts.nid) > (progress.xid, progress.nid)
        AND type = 'm.read' AND user_id LIKE '%:red.test'`),
    (rows) => rows.map(({ destination }) => destination)
  )

const untilNoneWaits = (server: HomeServer, roomId: string) =>
  Effect.repeat(waiting(server, roomId), { until: (rows) => rows.length === 0 })

layer(Servers.layer, { excludeTestServices: true, timeout: "2 minutes" })("Outgoing receipts", (it) => {
  it.effect("the last waiting receipt of each user reaches a server after its sender was killed", () =>
    Effect.gen(function* () {
      const { alice, andrew, bob, cut, mend, red, room_id, messages } = yield* scene
      yield* cut
      for (const eventId of messages) yield* readUpTo(alice, room_id, eventId)
      yield* readUpTo(andrew, room_id, messages[1]!)
      yield* red.kill
      assert.isNotEmpty(yield* waiting(red, room_id))
      yield* red.start
      yield* mend
      yield* endBackoff([alice, bob])
      yield* untilShown(bob, room_id, alice.userId, [messages[2]!])
      yield* untilShown(bob, room_id, andrew.userId, [messages[1]!])
      yield* untilNoneWaits(red, room_id)
    })
  )

  it.effect("a receipt reaches a server that was down when the receipt was sent, and when the sender restarted", () =>
    Effect.gen(function* () {
      const { alice, blue, bob, red, room_id, messages } = yield* scene
      yield* readUpTo(alice, room_id, messages[0]!)
      yield* untilShown(bob, room_id, alice.userId, [messages[0]!])
      yield* blue.kill
      yield* readUpTo(alice, room_id, messages[1]!)
      yield* red.stop
      yield* red.start
      yield* blue.start
      yield* endBackoff([alice, bob])
      yield* untilShown(bob, room_id, alice.userId, [messages[1]!])
      yield* untilNoneWaits(red, room_id)
    })
  )

  it.effect("receipts of one user in several threads are sent, and private ones are not", () =>
    Effect.gen(function* () {
      const { alice, andrew, bob, cut, mend, red, room_id, messages } = yield* scene
      const relation = { "m.relates_to": { rel_type: "m.thread", event_id: messages[0] } }
      const reply = yield* expectOk(
        bob.ask("POST", `/rooms/${encodeURIComponent(room_id)}/send/m.room.message`, {
          msgtype: "m.text",
          body: "reply",
          ...relation
        })
      )
      yield* reads(alice, room_id, "reply")
      yield* cut
      yield* readUpTo(alice, room_id, messages[1]!, { thread_id: "main" })
      yield* readUpTo(alice, room_id, reply.event_id, { thread_id: messages[0] })
      yield* readUpTo(alice, room_id, messages[2]!)
      yield* expectOk(
        andrew.ask("POST", `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/read_markers`, {
          "m.read.private": messages[2]
        })
      )
      assert.isNotEmpty(yield* waiting(red, room_id))
      yield* mend
      yield* endBackoff([alice, bob])
      yield* untilShown(bob, room_id, alice.userId, [
        `${messages[1]} main`,
        `${reply.event_id} ${messages[0]}`,
        messages[2]!
      ])
      yield* untilNoneWaits(red, room_id)
      assert.deepStrictEqual(yield* receiptsOf(bob, room_id, andrew.userId), [])
    })
  )
})
