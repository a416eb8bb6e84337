/**
 * Floods, malformed transactions, endless chains and missing answers of a hostile server in the draft's dialect.
 */
import { assert, layer } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, localpartOf } from "@greenroom/protocol/Identifiers"
import { defaultRoomVersion as version } from "@greenroom/room/RoomVersions"
import { Effect, Fiber } from "effect"
import type { Body } from "../support/Curl.ts"
import type { Person } from "../support/Scene.ts"
import { Servers, scene } from "./support/DraftHostility.ts"
import { exchangeMessages, isHealthy, leavesRoomUnchanged, refused } from "./support/HostileNetwork.ts"
import { imagined, notFound } from "./support/HostileServer.ts"
import { change, createRoom, expectOk, type HomeServer, say, setState } from "./support/Network.ts"

const roomPath = (kind: string, room: string, rest = "") => `/${kind}/${encodeURIComponent(room)}${rest}`

layer(Servers.layer, { excludeTestServices: true, timeout: "2 minutes" })("Hostile servers of the draft", (it) => {
  it.effect("an endless chain of missing predecessors costs a bounded number of requests", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { blue, evil, mallory, red, room } = here
      const endless = () => evil.event(room, { sender: mallory }, { prevEvents: [imagined("evil.test")] })
      evil.respond = ({ path }) =>
        path.startsWith("/backfill/")
          ? {
              status: 200,
              body: { origin: "evil.test", ts: 1, pdus: Array.from({ length: 100 }, () => version.toPdu(endless())) }
            }
          : notFound
      const count = (server: HomeServer) => server.select("SELECT count(*)::int AS count FROM events")
      evil.asked.length = 0
      yield* leavesRoomUnchanged(
        here,
        Effect.gen(function* () {
          const before = yield* Effect.forEach([red, blue], count)
          yield* refused(here, Array.from({ length: 50 }, endless), /predecessors/)
          assert.deepStrictEqual(yield* Effect.forEach([red, blue], count), before)
        })
      )
      assert.isBelow(evil.asked.length, 100)

      // A chain of 2000 events, each the predecessor of the next.
      const chain = new Map<string, Event>()
      const link = (after: Pick<Event, "event_id" | "depth">): Event => {
        const event = evil.event(room, { sender: mallory }, { prevEvents: [after] })
        chain.set(event.event_id, event)
        return event
      }
      let next = link(imagined("evil.test"))
      for (let length = 0; length < 2000; length++) next = link(next)
      const back = (id: string, limit: number): ReadonlyArray<Body> => {
        const pdus: Array<Body> = []
        let event = chain.get(id)
        while (event !== undefined && pdus.length < limit) {
          event = chain.get(event.prev_events[0]!)
          if (event !== undefined) pdus.push(version.toPdu(event))
        }
        return pdus
      }
      evil.respond = ({ path }) => {
        const of = /v=([^,]+),/.exec(path)?.[1]
        if (of === undefined) return notFound
        return { status: 200, body: { origin: "evil.test", ts: 1, pdus: back(`$${of}:evil.test`, 100) } }
      }
      evil.asked.length = 0
      yield* leavesRoomUnchanged(here, refused(here, [next], /predecessors/))
      assert.isBelow(evil.asked.length, 40)
    })
  )

  it.effect(
    "a server that is not in a room cannot read it, whether the room is private or the server was removed",
    () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { alice, evil, mallory, red, room, room_id } = here
        const secret = yield* createRoom(alice, { visibility: "private" })
        const secretId = yield* say(alice, secret.room_id, "a secret")
        const learnsNothing = Effect.fnUntraced(function* (roomId: string, eventId: string) {
          const pduId = localpartOf(eventId as EventId)
          const reference = encodeURIComponent(`${pduId},red.test`)
          for (const path of [
            `/pdu/red.test/${pduId}`,
            roomPath("state", roomId),
            roomPath("state", roomId, `?at=${reference}`),
            roomPath("backfill", roomId, `?v=${reference}&limit=10`)
          ]) {
            const { body, status } = yield* evil.ask(red, "GET", path)
            assert.deepStrictEqual([path, status, body.errcode], [path, 404, "M_NOT_FOUND"])
          }
        })
        yield* learnsNothing(secret.room_id, secretId)
        for (const handshake of ["make_join", "make_leave", "make_knock"]) {
          const path = roomPath(handshake, secret.room_id, `/${encodeURIComponent(mallory)}`)
          assert.strictEqual((yield* evil.ask(red, "GET", path)).status, 404)
        }
        // It tries to join a room whose ID it knows, without an invitation.
        const outside = { roomId: secret.room_id, state: new Map(room.state), extremities: [imagined("red.test", 5)] }
        const intrusion = evil.event(outside, {
          type: "m.room.member",
          state_key: mallory,
          sender: mallory,
          content: { membership: "join" }
        })
        const path = roomPath("send_join", secret.room_id, `/${localpartOf(intrusion.event_id)}`)
        assert.strictEqual((yield* evil.ask(red, "PUT", path, version.toPdu(intrusion))).status, 404)
        const message = evil.event(outside, { sender: mallory })
        for (const answer of yield* evil.tell(red, intrusion, message))
          assert.match(answer ?? "taken", /There is no room/)

        // Events from after it left, and before it came back.
        yield* expectOk(change(alice, room_id, "kick", mallory))
        const later = yield* say(alice, room_id, "mallory is gone")
        yield* learnsNothing(room_id, later)
        assert.isFalse(evil.received.some(({ event_id }) => event_id === later || event_id === secretId))
        yield* exchangeMessages(here)
      })
  )

  it.effect(
    "malformed or too large transactions are refused, and malformed PDUs and PDUs of unknown rooms individually",
    () =>
      Effect.gen(function* () {
        const here = yield* scene
        const { evil, mallory, red, room } = here
        const good = version.toPdu(evil.event(room, { sender: mallory }))
        const count = red.select("SELECT count(*)::int AS count FROM events")
        const [before] = yield* count
        yield* leavesRoomUnchanged(
          here,
          Effect.gen(function* () {
            const notJson = yield* evil.ask(red, "PUT", "/send/notjson", undefined, { raw: '{"pdus": [' })
            assert.deepStrictEqual([notJson.status, notJson.body.errcode], [400, "M_NOT_JSON"])
            const list = yield* evil.ask(red, "PUT", "/send/list", undefined, { raw: "[]" })
            assert.deepStrictEqual([list.status, list.body.errcode], [400, "M_BAD_JSON"])
            const thousand = yield* evil.send(
              red,
              Array.from({ length: 1000 }, () => good)
            )
            assert.deepStrictEqual([thousand.status, thousand.body.errcode], [413, "M_TOO_LARGE"])
            const nowhere = { ...room, roomId: "!nowhere:red.test" }
            const [unknown] = yield* evil.tell(red, evil.event(nowhere, { sender: mallory }))
            assert.match(unknown ?? "taken", /There is no room/)
            const [orphan] = yield* evil.tell(
              red,
              evil.event(room, { sender: mallory }, { prevEvents: [imagined("evil.test"), imagined("red.test")] })
            )
            assert.match(orphan ?? "taken", /predecessors/)
            const { body, status } = yield* evil.send(red, [
              null,
              7,
              "pdu",
              {},
              { ...good, pdu_id: "big", content: { body: "x".repeat(1_000_000) } },
              { ...good, pdu_id: "deep", depth: -1 },
              { ...good, pdu_id: "many", prev_pdus: Array.from({ length: 1000 }, (_, i) => [`p${i}`, "evil.test"]) }
            ])
            assert.strictEqual(status, 200)
            assert.match(body.pdus["big,evil.test"].error, /bytes/)
            assert.match(body.pdus["deep,evil.test"].error, /depth/)
            assert.match(body.pdus["many,evil.test"].error, /prev_pdus/)
          })
        )
        const [after] = yield* count
        assert.strictEqual(after.count - before.count, 2, "only the messages of Alice and Bob are stored")
      })
  )

  it.effect("a flood of PDUs and EDUs does not disturb other users", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { evil, red, room, room_id } = here
      const pdus = Array.from({ length: 50 }, (_, index) =>
        version.toPdu(evil.event(room, { sender: `@flood${index}:evil.test` }))
      )
      const edus = Array.from({ length: 100 }, (_, index) => ({
        edu_type: index % 2 === 0 ? "m.typing" : "m.presence",
        origin: "evil.test",
        destination: "red.test",
        content:
          index % 2 === 0
            ? { room_id, user_id: `@flood${index}:evil.test`, typing: true }
            : { push: [{ user_id: `@flood${index}:evil.test`, state: "online", presence: "online" }] }
      }))
      yield* leavesRoomUnchanged(
        here,
        Effect.gen(function* () {
          const flood = yield* Effect.forkChild(
            Effect.forEach(Array.from({ length: 60 }), () => evil.send(red, pdus, { edus }), {
              concurrency: "unbounded"
            })
          )
          yield* isHealthy(red)
          const answers = yield* Fiber.join(flood)
          for (const { status } of answers) assert.include([200, 429], status)
          const outcomes = answers.flatMap(({ body, status }) => (status === 200 ? Object.values(body.pdus) : []))
          assert.isNotEmpty(outcomes)
          for (const outcome of outcomes) assert.isDefined((outcome as Body).error)
        })
      )
    })
  )

  it.effect("a room whose server answers with the state of another room is not joined", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { alice, bob, evil, mallory, room, red } = here
      const person: Person = yield* red.register("curious")
      const made = evil.event(room, {
        type: "m.room.member",
        state_key: person.userId,
        sender: mallory,
        content: { membership: "join" }
      })
      const { hashes: _, signatures: __, pdu_id: ___, origin: ____, ts: _____, ...template } = version.toPdu(made)
      const target = "!trap:evil.test"
      evil.respond = ({ path }) => {
        if (path.startsWith("/query/directory"))
          return { status: 200, body: { room_id: target, servers: ["evil.test"] } }
        if (path.startsWith("/make_join")) {
          const event = { ...template, context: target, user_id: person.userId }
          return { status: 200, body: { room_version: version.id, event } }
        }
        if (path.startsWith("/send_join")) {
          const state = [...room.state.values()].map(version.toPdu)
          return { status: 200, body: { state, auth_chain: [] } }
        }
        return notFound
      }
      const answer = yield* person.ask("POST", `/join/${encodeURIComponent("#trap:evil.test")}`, {})
      assert.strictEqual(answer.status, 403)
      const { rooms } = yield* expectOk(person.ask("GET", "/initialSync"))
      assert.isFalse(rooms.some(({ room_id }: Body) => room_id === target))
      yield* exchangeMessages(here)
      assert.strictEqual((yield* setState(bob, here.room_id, "m.room.topic", { topic: "no" })).status, 403)
      assert.strictEqual((yield* setState(alice, here.room_id, "m.room.topic", { topic: "yes" })).status, 200)
    })
  )

  it.effect("a missing transaction is requested once, however often it is named", () =>
    Effect.gen(function* () {
      const { evil, red } = yield* scene
      const about = { origin: evil.serverName, destination: red.serverName, ts: 1, pdus: [], edus: [] }
      let number = 0
      const name = (missing: string) =>
        Effect.map(
          evil.ask(red, "PUT", `/send/gap${++number}`, { ...about, prev_ids: [missing] }),
          ({ status, text }) => assert.strictEqual(status, 200, text)
        )
      evil.asked.length = 0
      const pulls = () => evil.asked.filter((path) => path.startsWith("/pull")).length
      for (const [index, missing] of ["missing1", "missing2"].entries()) {
        // While one request is under way, no other is made.
        yield* Effect.repeat(
          Effect.suspend(() => name(missing)),
          { until: () => pulls() > index }
        )
        for (let count = 0; count < 5; count++) yield* name(missing)
      }
      assert.strictEqual(pulls(), 2)
    })
  )

  it.effect("a server that never answers does not delay other work", () =>
    Effect.gen(function* () {
      const here = yield* scene
      const { evil, mallory, red, room } = here
      evil.respond = () => "never"
      const held = yield* Effect.forkChild(
        evil.tell(red, evil.event(room, { sender: mallory }, { prevEvents: [imagined("evil.test")] }))
      )
      yield* exchangeMessages(here)
      yield* exchangeMessages(here)
      yield* isHealthy(red)
      yield* Fiber.interrupt(held)
    })
  )
})
