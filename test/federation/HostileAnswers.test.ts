/**
 * Answers of a hostile server to requests for our users: they are bounded, contain no identifiers of other servers, and reach clients in
 * the documented form or not at all.
 *
 * Source: the server-server specification.
 */
import { assert, layer, vi } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { Effect } from "effect"
import type { Body } from "../support/Curl.ts"
import type { Person } from "../support/Scene.ts"
import { isHealthy, leavesRoomUnchanged } from "./support/HostileNetwork.ts"
import { type HostileRoom, imaginedHash, notFound, type Responder } from "./support/HostileServer.ts"
import { expectOk, say } from "./support/Network.ts"
import { Servers, sceneOf } from "./support/TodaysHostility.ts"
import { createRoom } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 120_000 })

const answer = (body: Body) => ({ status: 200, body })

/** Answers requests by the beginnings of their paths. */
const answering =
  (...answers: ReadonlyArray<readonly [string, Body]>): Responder =>
  ({ path }) => {
    const found = answers.find(([beginning]) => path.startsWith(beginning))
    return found === undefined ? notFound : answer(found[1])
  }

const client = (path: string) => `//_matrix/client/${path}`
const encoded = encodeURIComponent

/** A space as the hostile server describes it. */
const spaceOf = (roomId: string, children: ReadonlyArray<string>) => ({
  room_id: roomId,
  room_type: "m.space",
  num_joined_members: 1,
  world_readable: true,
  guest_can_join: false,
  join_rule: "public",
  children_state: children.map((state_key) => ({
    type: "m.space.child",
    state_key,
    sender: "@evil:evil.test",
    content: { via: ["evil.test"] },
    origin_server_ts: 1
  }))
})

/** Adds a room of the hostile server to a space. */
const addTo = (person: Person, space: string, child: string) =>
  expectOk(
    person.ask("PUT", client(`v3/rooms/${encoded(space)}/state/m.space.child/${encoded(child)}`), {
      via: ["evil.test"]
    })
  )

layer(Servers.layer, { excludeTestServices: true, timeout: "3 minutes" })("Answers of a hostile server", (it) => {
  it.effect("a profile beyond the size limit is not found", () =>
    Effect.gen(function* () {
      const { alice, evil, red } = yield* sceneOf("11")
      evil.respond = answering(["/v1/query/profile", { displayname: "Evil", "org.test.blob": "x".repeat(70_000) }])
      const { body, status } = yield* alice.ask("GET", client(`v3/profile/${encoded("@large:evil.test")}`))
      assert.deepStrictEqual([status, body.errcode], [404, "M_NOT_FOUND"])
      evil.respond = answering(["/v1/query/profile", { displayname: "Evil", "org.test.blob": "x".repeat(50_000) }])
      const fitting = yield* expectOk(alice.ask("GET", client(`v3/profile/${encoded("@fitting:evil.test")}`)))
      assert.strictEqual(fitting.displayname, "Evil")
      yield* isHealthy(red)
    })
  )

  it.effect("a page of public rooms beyond the size limit is not found", () =>
    Effect.gen(function* () {
      const { alice, evil, red } = yield* sceneOf("11")
      const room = (index: number, topic: string) => ({
        room_id: `!public${index}:evil.test`,
        num_joined_members: 1,
        world_readable: true,
        guest_can_join: false,
        topic
      })
      const ask = (limit: number) => alice.ask("POST", client("v3/publicRooms?server=evil.test"), { limit })
      const many = Array.from({ length: 3_000 }, (_, index) => room(index, "x".repeat(1_000)))
      evil.respond = answering(["/v1/publicRooms", { chunk: many }])
      const large = yield* ask(5)
      assert.deepStrictEqual([large.status, large.body.errcode], [404, "M_NOT_FOUND"])
      yield* isHealthy(red)
    })
  )

  it.effect("answers of very many small values are not kept, others are", () =>
    Effect.gen(function* () {
      const { alice, evil, number, red } = yield* sceneOf("11")
      const values = (count: number) => Array.from({ length: count }, () => ({}))
      const rooms = (count: number) =>
        Array.from({ length: count }, (_, index) => ({ room_id: `!p${index}:evil.test` }))
      const timesAsked = Effect.fnUntraced(function* (path: string, body: Body) {
        evil.respond = () => answer(body)
        const before = evil.asked.length
        for (let count = 0; count < 2; count++) yield* expectOk(alice.ask("GET", client(path)))
        return evil.asked.length - before
      })
      const profileOf = (name: string) => `v3/profile/${encoded(`@${name}${number}:evil.test`)}`
      assert.strictEqual(yield* timesAsked(profileOf("many"), { displayname: "x", "org.test": values(10_000) }), 2)
      assert.strictEqual(yield* timesAsked(profileOf("few"), { displayname: "x", "org.test": values(100) }), 1)
      const page = (since: string) => `v3/publicRooms?server=evil.test&since=${since}${number}`
      assert.strictEqual(yield* timesAsked(page("many"), { chunk: rooms(20_000) }), 2)
      assert.strictEqual(yield* timesAsked(page("few"), { chunk: rooms(1_000) }), 1)
      yield* isHealthy(red)
    })
  )

  it.effect("spaces that contain themselves or never end cost a bounded number of requests", () =>
    Effect.gen(function* () {
      const { alice, evil, number, red } = yield* sceneOf("11")
      const space = yield* createRoom(alice, "11", { creation_content: { type: "m.space" } })
      let asked = 0
      evil.respond = ({ path }) => {
        const [, roomId] = /^\/v1\/hierarchy\/([^?]+)/.exec(path) ?? []
        if (roomId === undefined) return notFound
        asked++
        const next = Array.from({ length: 100 }, (_, index) => `!s${number}x${asked}x${index}:evil.test`)
        return answer({ room: spaceOf(roomId, [roomId, space, ...next]), children: [], inaccessible_children: [] })
      }
      const begin = `!begin${number}:evil.test`
      yield* addTo(alice, space, begin)
      const found = yield* expectOk(alice.ask("GET", client(`v1/rooms/${encoded(space)}/hierarchy?limit=1000`)))
      assert.isAbove(asked, 0)
      assert.isAtMost(asked, 60)
      const ids = found.rooms.map(({ room_id }: Body) => room_id)
      assert.strictEqual(new Set(ids).size, ids.length, "each room once")
      yield* isHealthy(red)
    })
  )

  it.effect("rooms in lists have values of the documented forms alone", () =>
    Effect.gen(function* () {
      const { alice, evil, number } = yield* sceneOf("11")
      const [space, room] = [`!odd${number}:evil.test`, `!room${number}:evil.test`]
      const odd = {
        num_joined_members: 1.5,
        canonical_alias: "junk",
        room_version: "9".repeat(33),
        name: 7,
        constructor: 1
      }
      const child = {
        type: "m.space.child",
        state_key: room,
        sender: "@evil:evil.test",
        content: { via: ["evil.test"] }
      }
      const summary = { room_id: space, ...odd, room_type: "m.space", world_readable: true }
      evil.respond = answering(
        ["/v1/publicRooms", { chunk: [{ room_id: room, ...odd, world_readable: true }] }],
        ["/v1/hierarchy", { room: { ...summary, children_state: [{ ...child, event_id: "$x" }] }, children: [] }]
      )
      const common = { num_joined_members: 0, world_readable: true, guest_can_join: false }
      const page = yield* expectOk(alice.ask("GET", client(`v3/publicRooms?server=evil.test&since=odd${number}`)))
      assert.deepStrictEqual(page.chunk, [{ room_id: room, ...common }])
      const own = yield* createRoom(alice, "11", { creation_content: { type: "m.space" } })
      yield* addTo(alice, own, space)
      const { rooms } = yield* expectOk(alice.ask("GET", client(`v1/rooms/${encoded(own)}/hierarchy`)))
      assert.deepStrictEqual(rooms[1], {
        room_id: space,
        ...common,
        room_type: "m.space",
        join_rule: "public",
        children_state: [{ ...child, origin_server_ts: 0 }]
      })
    })
  )

  it.effect("rooms in a space that no user of ours can enter, as its server says, are not asked for", () =>
    Effect.gen(function* () {
      const { alice, evil, number } = yield* sceneOf("11")
      const space = yield* createRoom(alice, "11", { creation_content: { type: "m.space" } })
      const idOf = (name: string) => `!${name}${number}:evil.test`
      const [begin, closed, open] = [idOf("begun"), idOf("closed"), idOf("open")]
      const asked: Array<string> = []
      evil.respond = ({ path }) => {
        const [, roomId] = /^\/v1\/hierarchy\/([^?]+)/.exec(path) ?? []
        if (roomId === undefined) return notFound
        asked.push(decodeURIComponent(roomId))
        return decodeURIComponent(roomId) === begin
          ? answer({ room: spaceOf(begin, [closed, open]), children: [], inaccessible_children: [closed, 7] })
          : notFound
      }
      yield* addTo(alice, space, begin)
      const { rooms } = yield* expectOk(alice.ask("GET", client(`v1/rooms/${encoded(space)}/hierarchy`)))
      assert.deepStrictEqual(
        rooms.map(({ room_id }: Body) => room_id),
        [space, begin]
      )
      assert.deepStrictEqual(asked, [begin, open])
    })
  )

  it.effect("one-time keys that were not requested, or that are of other users, are dropped", () =>
    Effect.gen(function* () {
      const { alice, bob, evil, mallory } = yield* sceneOf("11")
      const key = { "signed_curve25519:AAAA": { key: "k".repeat(43), signatures: {} } }
      evil.respond = answering([
        "/v1/user/keys/claim",
        {
          one_time_keys: {
            [mallory]: { PHONE: key, OTHER: key },
            [bob.userId]: { PHONE: key },
            "@else:evil.test": { PHONE: key }
          }
        }
      ])
      const claimed = yield* expectOk(
        alice.ask("POST", client("v3/keys/claim"), { one_time_keys: { [mallory]: { PHONE: "signed_curve25519" } } })
      )
      assert.deepStrictEqual(claimed.one_time_keys, { [mallory]: { PHONE: key } })
    })
  )

  it.effect("an answer to timestamp_to_event that names an event of another room, or none, is not passed on", () =>
    Effect.gen(function* () {
      const here = yield* sceneOf("11")
      const { alice, evil, room_id } = here
      const secretRoom = yield* createRoom(alice, "11", { preset: "private_chat" })
      const secret = yield* say(alice, secretRoom, "secret")
      yield* leavesRoomUnchanged(
        here,
        Effect.gen(function* () {
          for (const event_id of [secret, imaginedHash().event_id, "no event ID", `$${"x".repeat(300)}`]) {
            evil.respond = answering(["/v1/timestamp_to_event", { event_id, origin_server_ts: 5 }])
            const found = yield* alice.ask("GET", client(`v1/rooms/${encoded(room_id)}/timestamp_to_event?ts=5&dir=b`))
            if (found.status === 200) assert.notInclude([secret, event_id], found.body.event_id)
            else assert.deepStrictEqual([found.status, found.body.errcode], [404, "M_NOT_FOUND"])
          }
        })
      )
    })
  )

  it.effect("the stripped state in the answer to a knock is bounded", () =>
    Effect.gen(function* () {
      const { alice, evil, number, red } = yield* sceneOf("11")
      const host = `@host${number}:evil.test`
      const knock = Effect.fnUntraced(function* (roomId: string, size: number, count: number) {
        const room = { roomId, version: evil.useVersion(roomId, "11"), state: new Map(), extremities: [imaginedHash()] }
        const strippedState = Array.from({ length: count }, (_, index) => ({
          type: `org.test.${index}`,
          state_key: "",
          sender: host,
          content: { text: "x".repeat(size) }
        }))
        evil.respond = ({ path }) => {
          if (path.startsWith("/v1/make_knock/")) {
            const event = evil.event(room, {
              type: "m.room.member",
              sender: alice.userId,
              state_key: alice.userId,
              content: { membership: "knock" }
            })
            const { hashes: _hashes, signatures: _signatures, ...template } = evil.toPdu(event)
            return answer({ room_version: "11", event: template })
          }
          return path.startsWith("/v1/send_knock/") ? answer({ knock_room_state: strippedState }) : notFound
        }
        const { status } = yield* alice.ask("POST", client(`v3/knock/${encoded(roomId)}?via=evil.test`), {})
        const { body, text } = yield* alice.ask("GET", client("v3/sync?timeout=0"))
        const events: ReadonlyArray<Body> = body.rooms?.knock?.[roomId]?.knock_state.events ?? []
        return { events, status, text }
      })
      const many = yield* knock(`!many${number}:evil.test`, 100, 5_000)
      assert.strictEqual(many.status, 200)
      assert.isNotEmpty(many.events)
      assert.isAtMost(many.events.length, 52)
      const large = yield* knock(`!large${number}:evil.test`, 3_000, 300)
      assert.strictEqual(large.status, 200)
      assert.isNotEmpty(large.events)
      assert.isAtMost(large.events.length, 52)
      assert.isBelow(large.text.length, 500_000)
      const tooLarge = yield* knock(`!toolarge${number}:evil.test`, 3_000, 1_000)
      assert.strictEqual(tooLarge.status, 404)
      assert.isBelow(tooLarge.text.length, 500_000)
      yield* isHealthy(red)
    })
  )

  it.effect("a template of a join with thousands of predecessors or auth events is refused", () =>
    Effect.gen(function* () {
      const { alice, evil, number, red } = yield* sceneOf("11")
      const roomId = `!wide${number}:evil.test`
      const version = evil.useVersion(roomId, "11")
      const room = { roomId, version, state: new Map(), extremities: [imaginedHash()] }
      const wide =
        (key: string): Responder =>
        ({ path }) => {
          if (!path.startsWith("/v1/make_join/")) return notFound
          const event = evil.event(room, {
            type: "m.room.member",
            sender: alice.userId,
            state_key: alice.userId,
            content: { membership: "join" }
          })
          const { hashes: _hashes, signatures: _signatures, ...template } = evil.toPdu(event)
          const many = Array.from({ length: 4_000 }, () => imaginedHash().event_id)
          return answer({ room_version: "11", event: { ...template, [key]: many } })
        }
      for (const key of ["prev_events", "auth_events"]) {
        evil.respond = wide(key)
        const before = evil.asked.length
        const joined = yield* alice.ask("POST", client(`v3/join/${encoded(roomId)}?via=evil.test`), {})
        assert.isAtLeast(joined.status, 400)
        assert.notStrictEqual(joined.status, 500, joined.text)
        assert.isFalse(evil.asked.slice(before).some((path) => path.startsWith("/v2/send_join/")))
      }
      yield* isHealthy(red)
    })
  )

  it.effect("a join is sent as an event too if the former membership of the user cannot be verified", () =>
    Effect.gen(function* () {
      const { alice, evil, number, red } = yield* sceneOf("11")
      const roomId = `!former${number}:evil.test`
      const host = `@host${number}:evil.test`
      const room: HostileRoom & { readonly state: Map<string, Event> } = {
        roomId,
        version: evil.useVersion(roomId, "11"),
        state: new Map(),
        extremities: []
      }
      const add = (type: string, state_key: string, content: Body, sender = host) => {
        const event = evil.event(room, { type, state_key, sender, content })
        room.state.set(`${type}\0${state_key}`, event)
        room.extremities = [event]
      }
      add("m.room.create", "", { room_version: "11" })
      add("m.room.member", host, { membership: "join" })
      add("m.room.power_levels", "", { users: { [host]: 100 } })
      add("m.room.join_rules", "", { join_rule: "public" })
      // Signed by another key than those of Alice's server.
      add("m.room.member", alice.userId, { membership: "join" }, alice.userId)
      const state = [...room.state.values()].map((event) => evil.toPdu(event))
      evil.respond = ({ path }) => {
        if (path.startsWith("/v1/make_join/")) {
          const content = { membership: "join" }
          const event = evil.event(room, {
            type: "m.room.member",
            sender: alice.userId,
            state_key: alice.userId,
            content
          })
          const { hashes: _hashes, signatures: _signatures, ...template } = evil.toPdu(event)
          return answer({ room_version: "11", event: template })
        }
        return path.startsWith("/v2/send_join/") ? answer({ origin: "evil.test", state, auth_chain: state }) : notFound
      }
      yield* expectOk(alice.ask("POST", client(`v3/join/${encoded(roomId)}?via=evil.test`), {}))
      const former = room.state.get(`m.room.member\0${alice.userId}`)!
      yield* evil.receives(({ room_id, sender }) => room_id === roomId && sender === alice.userId)
      assert.isTrue(evil.received.every(({ event_id }) => event_id !== former.event_id))
      yield* isHealthy(red)
    })
  )
})
