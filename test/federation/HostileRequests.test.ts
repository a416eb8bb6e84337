/**
 * Every operation of the server-server API with malformed bodies, paths and queries, from servers that share a room or none, were
 * removed, or are denied by m.room.server_acl: there is no internal error, and no server reads a room without permission.
 */
import { assert, layer, vi } from "@effect/vitest"
import type { Event } from "@greenroom/protocol/Event"
import { roomVersion } from "@greenroom/room/RoomVersions"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Context, Effect, Layer, Result } from "effect"
import type { Body } from "../support/Curl.ts"
import { type Random, randomFrom } from "../support/Seed.ts"
import { ids, isHealthy, leavesRoomUnchanged } from "./support/HostileNetwork.ts"
import { type HostileRoom, HostileServer, imaginedHash, notFound } from "./support/HostileServer.ts"
import {
  change,
  expectOk,
  type HomeServer,
  isMember,
  network,
  readBack,
  say,
  sees,
  setState
} from "./support/Network.ts"
import { createRoom, todaysScene } from "./support/TodaysScene.ts"

vi.setConfig({ testTimeout: 180_000 })

const names = ["evil.test", "outer.test", "banned.test", "kept-out.test"] as const

const makeServers = Effect.gen(function* () {
  const others: Record<string, number> = {}
  const servers: Array<HostileServer> = []
  for (const name of names) {
    const server = new HostileServer(name, "today")
    server.respond = () => notFound
    others[name] = yield* freePort
    yield* server.listen(others[name])
    servers.push(server)
  }
  const [evil, outer, banned, keptOut] = servers as [HostileServer, HostileServer, HostileServer, HostileServer]
  return { ...(yield* network(["red.test", "blue.test"], { others })), evil, outer, banned, keptOut }
})

class Servers extends Context.Service<Servers, Effect.Success<typeof makeServers>>()("greenroom/test/HostileRequests") {
  static readonly layer = Layer.effect(Servers, makeServers)
}

/** Invalid values. Requests with values that have no canonical form have an invalid signature. */
const odd: ReadonlyArray<unknown> = [
  null,
  true,
  -1,
  0,
  2 ** 53,
  1.5,
  "",
  "x",
  "\u0000",
  "\ud800",
  "$",
  "!",
  "@",
  "@:",
  "$\u0000",
  "__proto__",
  "x".repeat(70_000),
  [],
  [null],
  [[[]]],
  Array.from({ length: 1_000 }, (_, index) => `$e${index}`),
  {},
  { "": null },
  { __proto__: null, constructor: {}, toString: 1 },
  JSON.parse(`${"[".repeat(250)}${"]".repeat(250)}`)
]

const oddTexts = [
  "",
  "x",
  "$",
  "!",
  "@",
  "@a",
  "@:b",
  "%00",
  "\u0000",
  "..",
  "a/b",
  "ü",
  "\ud83d\ude00",
  "-1",
  "1e9",
  "9".repeat(30)
]

const pick = <A>(random: Random, from: ReadonlyArray<A>): A => from[random(from.length)]!

/** The body with one of its values, at any depth, replaced or removed, or with one more key. */
const spoiled = (random: Random, value: unknown): unknown => {
  if (typeof value !== "object" || value === null || random(6) === 0) return pick(random, odd)
  if (Array.isArray(value)) {
    if (value.length === 0 || random(4) === 0) return [...value, pick(random, odd)]
    const at = random(value.length)
    return value.map((entry, index) => (index === at ? spoiled(random, entry) : entry))
  }
  const keys = Object.keys(value)
  const key = pick(random, keys.length === 0 ? ["x"] : keys)
  const { [key]: entry, ...rest } = value as Record<string, unknown>
  if (random(5) === 0) return rest
  if (random(8) === 0) return { ...value, [String(pick(random, oddTexts))]: pick(random, odd) }
  return { ...rest, [key]: spoiled(random, entry) }
}

interface Operation {
  readonly method: "GET" | "PUT" | "POST"
  readonly path: ReadonlyArray<string>
  readonly query?: ReadonlyArray<readonly [string, string]>
  readonly body?: Body
  /** Whether only servers in the room get an answer. */
  readonly ofRoom?: true
}

/** The operations with authentication, with the parameters of a server in the room. */
const operations = (
  roomId: string,
  eventId: string,
  userId: string,
  own: string,
  pdu: Body,
  pduId: string
): ReadonlyArray<Operation> => {
  const edus = [
    { edu_type: "m.typing", content: { room_id: roomId, user_id: own, typing: true } },
    {
      edu_type: "m.receipt",
      content: { [roomId]: { "m.read": { [own]: { data: { ts: 1, thread_id: "main" }, event_ids: [eventId] } } } }
    },
    {
      edu_type: "m.presence",
      content: { push: [{ user_id: own, presence: "online", last_active_ago: 1, status_msg: "x" }] }
    },
    {
      edu_type: "m.device_list_update",
      content: {
        user_id: own,
        device_id: "D",
        stream_id: 2,
        prev_id: [1],
        device_display_name: "x",
        keys: { a: { b: "c" } }
      }
    },
    {
      edu_type: "m.signing_key_update",
      content: { user_id: own, master_key: { keys: {}, usage: ["master"] }, self_signing_key: {} }
    },
    {
      edu_type: "m.direct_to_device",
      content: { sender: own, type: "m.x", message_id: "m", messages: { [userId]: { "*": { a: 1 } } } }
    }
  ]
  const invited = {
    signed: { mxid: userId, token: "t", signatures: { "id.test": { "ed25519:0": "x" } } },
    display_name: "x"
  }
  return [
    { method: "PUT", path: ["v1", "send", "t"], body: { origin_server_ts: 1, pdus: [pdu], edus } },
    { method: "GET", path: ["v1", "event", eventId], ofRoom: true },
    { method: "GET", path: ["v1", "state", roomId], query: [["event_id", eventId]], ofRoom: true },
    { method: "GET", path: ["v1", "state_ids", roomId], query: [["event_id", eventId]], ofRoom: true },
    { method: "GET", path: ["v1", "event_auth", roomId, eventId], ofRoom: true },
    {
      method: "GET",
      path: ["v1", "backfill", roomId],
      query: [
        ["v", eventId],
        ["v", eventId],
        ["limit", "10"]
      ],
      ofRoom: true
    },
    {
      method: "POST",
      path: ["v1", "get_missing_events", roomId],
      body: { earliest_events: [], latest_events: [eventId], limit: 1e9, min_depth: 0 },
      ofRoom: true
    },
    {
      method: "GET",
      path: ["v1", "timestamp_to_event", roomId],
      query: [
        ["ts", "1"],
        ["dir", "f"]
      ],
      ofRoom: true
    },
    ...["join", "leave", "knock"].map(
      (name): Operation => ({
        method: "GET",
        path: ["v1", `make_${name}`, roomId, own],
        query: [
          ["ver", "11"],
          ["ver", "x"]
        ]
      })
    ),
    ...["v1", "v2"].flatMap(
      (version): ReadonlyArray<Operation> => [
        {
          method: "PUT",
          path: [version, "send_join", roomId, pduId],
          query: version === "v2" ? [["omit_members", "true"]] : [],
          body: pdu
        },
        { method: "PUT", path: [version, "send_leave", roomId, pduId], body: pdu }
      ]
    ),
    { method: "PUT", path: ["v1", "send_knock", roomId, pduId], body: pdu },
    { method: "PUT", path: ["v1", "invite", roomId, pduId], body: { ...pdu, unsigned: { invite_room_state: [pdu] } } },
    {
      method: "PUT",
      path: ["v2", "invite", roomId, pduId],
      body: { event: pdu, room_version: "11", invite_room_state: [pdu] }
    },
    {
      method: "GET",
      path: ["v1", "publicRooms"],
      query: [
        ["limit", "3"],
        ["since", "x"]
      ]
    },
    {
      method: "POST",
      path: ["v1", "publicRooms"],
      body: { limit: 3, since: "x", filter: { generic_search_term: "x", room_types: [null] } }
    },
    { method: "GET", path: ["v1", "hierarchy", roomId], query: [["suggested_only", "true"]] },
    {
      method: "PUT",
      path: ["v1", "exchange_third_party_invite", roomId],
      body: {
        type: "m.room.member",
        room_id: roomId,
        sender: userId,
        state_key: own,
        content: { membership: "invite", third_party_invite: invited }
      }
    },
    {
      method: "GET",
      path: ["v1", "query", "profile"],
      query: [
        ["user_id", userId],
        ["field", "displayname"]
      ]
    },
    { method: "GET", path: ["v1", "query", "directory"], query: [["room_alias", "#nothing:red.test"]] },
    { method: "GET", path: ["v1", "query", "anything"], query: [["x", "y"]] },
    { method: "GET", path: ["v1", "user", "devices", userId] },
    { method: "POST", path: ["v1", "user", "keys", "query"], body: { device_keys: { [userId]: ["D"] } } },
    {
      method: "POST",
      path: ["v1", "user", "keys", "claim"],
      body: { one_time_keys: { [userId]: { D: "signed_curve25519" } } }
    },
    { method: "GET", path: ["v1", "media", "download", "nothing"], query: [["timeout_ms", "1"]] },
    {
      method: "GET",
      path: ["v1", "media", "thumbnail", "nothing"],
      query: [
        ["width", "1"],
        ["height", "1"],
        ["method", "crop"]
      ]
    }
  ]
}

const urlOf = ({ path, query = [] }: Pick<Operation, "path" | "query">): string => {
  const encode = (text: string) => encodeURIComponent(text.toWellFormed())
  const parameters = query.map(([key, value]) => `${key}=${encode(value)}`).join("&")
  return path.map((part) => `/${encode(part)}`).join("") + (parameters === "" ? "" : `?${parameters}`)
}

/** The operation with an invalid part in the path, the query or the body. */
const spoil = (random: Random, operation: Operation): Operation => {
  const { body, path, query = [] } = operation
  const kinds = [
    ...(path.length > 2 ? ["path"] : []),
    ...(query.length > 0 ? ["query"] : []),
    ...(body === undefined ? [] : ["body", "body", "body"])
  ]
  switch (pick(random, kinds.length === 0 ? ["path"] : kinds)) {
    case "path":
      return { ...operation, path: [...path.slice(0, -1), pick(random, oddTexts)] }
    case "query": {
      const at = random(query.length)
      const other = query.map(([key, value], index): readonly [string, string] => [
        key,
        index === at ? pick(random, oddTexts) : value
      ])
      return {
        ...operation,
        query: random(4) === 0 ? Array.from({ length: 1_000 }, () => query[at]!).slice(0, 200) : other
      }
    }
    default:
      return { ...operation, body: spoiled(random, body) }
  }
}

/** Sends the body in its canonical form if it has one, so that the signature is valid. */
const ask = (from: HostileServer, to: HomeServer, { body, method, ...where }: Operation) =>
  from.ask(to, method, urlOf(where), undefined, body === undefined ? {} : { raw: JSON.stringify(sorted(body)) })

const sorted = (value: unknown): unknown =>
  Array.isArray(value)
    ? value.map(sorted)
    : typeof value === "object" && value !== null
      ? Object.fromEntries(
          Object.entries(value)
            .sort(([a], [b]) => (a < b ? -1 : 1))
            .map(([key, entry]) => [key, sorted(entry)])
        )
      : value

layer(Servers.layer, { excludeTestServices: true, timeout: "3 minutes" })("Hostile requests", (it) => {
  it.effect("malformed requests are refused without an internal error", () =>
    Effect.gen(function* () {
      const net = yield* Servers
      const here = yield* todaysScene(net, "11")
      const { alice, red, room, room_id } = here
      const event = yield* say(alice, room_id, "hello")
      const random = randomFrom(14)
      const statuses = new Map<number, number>()
      yield* leavesRoomUnchanged(
        here,
        Effect.gen(function* () {
          for (const from of [net.evil, net.outer]) {
            const own = from === net.evil ? here.mallory : `@stranger:${from.serverName}`
            from.useVersion(room_id, "11")
            const made = from.event(
              { ...room, extremities: [imaginedHash(5)] },
              { type: "m.room.member", state_key: own, sender: own, content: { membership: "ban" } }
            )
            const pdu = from.toPdu(made)
            for (const operation of operations(room_id, event, alice.userId, own, pdu, made.event_id)) {
              for (let attempt = 0; attempt < 15; attempt++) {
                const asked = attempt === 0 ? operation : spoil(random, operation)
                const { body, status } = yield* ask(from, red, asked)
                const shown = `${from.serverName} ${asked.method} ${urlOf(asked).slice(0, 200)} ${JSON.stringify(asked.body)?.slice(0, 1_000)}`
                statuses.set(status, (statuses.get(status) ?? 0) + 1)
                assert.isBelow(status, 500, `${shown}: ${JSON.stringify(body)}`)
                if (status >= 400) assert.isString(body.errcode, shown)
              }
            }
          }
        })
      )
      // Most requests have a valid signature, so that their bodies are parsed.
      const total = [...statuses.values()].reduce((sum, count) => sum + count)
      assert.isBelow(statuses.get(401) ?? 0, total / 4, JSON.stringify([...statuses]))
      assert.isAbove(statuses.get(400) ?? 0, total / 10, JSON.stringify([...statuses]))
      assert.notInclude(red.log, "Internal error while answering")
      yield* isHealthy(red)
    })
  )

  it.effect("a server that shares no room, was removed or is denied cannot read the room or send to it", () =>
    Effect.gen(function* () {
      const net = yield* Servers
      const here = yield* todaysScene(net, "11")
      const { alice, evil, mallory, red, room, room_id } = here
      const member = "@member:banned.test"
      yield* net.banned.join(red, room_id, member)
      const keptOutRoom = yield* net.keptOut.join(red, room_id, "@member:kept-out.test")
      yield* expectOk(change(alice, room_id, "ban", member))
      yield* expectOk(setState(alice, room_id, "m.room.server_acl", { allow: ["*"], deny: ["kept-out.test"] }))
      const event = yield* say(alice, room_id, "not for everybody")
      const relayed = evil.event(room, { sender: mallory })
      for (const from of [net.outer, net.banned, net.keptOut]) {
        const answer = yield* from.send(red, [evil.toPdu(relayed)])
        assert.isString(answer.body.pdus[relayed.event_id].error, from.serverName)
        const own = `@member:${from.serverName}`
        for (const operation of operations(room_id, event, alice.userId, own, {}, event)) {
          if (operation.ofRoom === undefined) continue
          const { body, status, text } = yield* ask(from, red, operation)
          assert.include([403, 404], status, `${from.serverName} ${urlOf(operation)}`)
          assert.include(["M_FORBIDDEN", "M_NOT_FOUND"], body.errcode)
          assert.notInclude(text, "not for everybody")
        }
      }
      // They cannot join again, although the room is public.
      for (const from of [net.banned, net.keptOut]) {
        const path = `/v1/make_join/${encodeURIComponent(room_id)}/${encodeURIComponent(`@member:${from.serverName}`)}?ver=11`
        assert.strictEqual((yield* from.ask(red, "GET", path)).status, 403)
      }
      // The typing of a user of a denied server is not shown.
      const typing = (user_id: string) => ({ edu_type: "m.typing", content: { room_id, user_id, typing: true } })
      yield* net.keptOut.send(red, [], { edus: [typing("@member:kept-out.test")] })
      yield* evil.send(red, [], { edus: [typing(mallory)] })
      const typed = yield* sees(alice, ({ content, type }) => type === "m.typing" && content.user_ids.length > 0)
      assert.deepStrictEqual(typed.content.user_ids, [mallory])
      // Invitations to the room come from servers that are not denied, in the version of the room.
      const guest = yield* red.register(`invited${here.number}`)
      const invite = Effect.fnUntraced(function* (from: HostileServer, room: HostileRoom, sender: string) {
        const proposal = { type: "m.room.member", state_key: guest.userId, content: { membership: "invite" }, sender }
        const event = from.event(room, proposal)
        const path = `/v2/invite/${encodeURIComponent(room_id)}/${encodeURIComponent(event.event_id)}`
        const content = { event: from.toPdu(event), room_version: room.version!.id, invite_room_state: [] }
        const { body, status } = yield* from.ask(red, "PUT", path, content)
        return [status, body.errcode]
      })
      assert.deepStrictEqual(yield* invite(net.keptOut, keptOutRoom, "@member:kept-out.test"), [403, "M_FORBIDDEN"])
      const older = { ...room, version: evil.useVersion(room_id, "10") }
      assert.deepStrictEqual(yield* invite(evil, older, mallory), [400, "M_BAD_JSON"])
    })
  )

  it.effect("an event that waited for its predecessor is refused if its server was denied meanwhile", () =>
    Effect.gen(function* () {
      const net = yield* Servers
      const { alice, evil, mallory, red, room, room_id } = yield* todaysScene(net, "11")
      const outerRoom = yield* net.outer.join(red, room_id, "@member:outer.test")
      const first = net.outer.event(outerRoom, { sender: "@member:outer.test" })
      const late = evil.event(room, { sender: mallory }, { prevEvents: [first] })
      yield* evil.tell(red, late)
      const waiting = red.select(`SELECT event_id FROM waiting_events WHERE room_id = '${room_id}'`)
      assert.deepStrictEqual(yield* waiting, [{ event_id: late.event_id }])
      yield* expectOk(setState(alice, room_id, "m.room.server_acl", { allow: ["*"], deny: ["evil.test"] }))
      assert.deepStrictEqual(yield* net.outer.tell(red, first), [undefined])
      const read = ids(yield* readBack(alice, room_id))
      assert.include(read, first.event_id)
      assert.notInclude(read, late.event_id)
      assert.isEmpty(yield* waiting)
    })
  )

  it.effect("a removal whose predecessors are unknown counts from the server of its sender alone", () =>
    Effect.gen(function* () {
      const net = yield* Servers
      const { alice, blue, bob, evil, mallory, red, room, room_id } = yield* todaysScene(net, "11")
      const relay = "@relay:outer.test"
      yield* net.outer.join(red, room_id, relay)
      const levels = room.state.get("m.room.power_levels\0")!.content
      const users = { ...(levels.users as object), [mallory]: 100 }
      const { event_id } = yield* expectOk(setState(alice, room_id, "m.room.power_levels", { ...levels, users }))
      const promoted = yield* evil.receives((event) => event.event_id === event_id)
      yield* sees(bob, (event) => event.event_id === event_id)
      const forbidden = { status: 403, body: { errcode: "M_FORBIDDEN", error: "You are not in the room" } }
      evil.respond = net.outer.respond = () => forbidden
      const leave = { type: "m.room.member", state_key: bob.userId, content: { membership: "leave" } }
      const graph = { prevEvents: [imaginedHash()], state: [promoted] }
      const removal = evil.event(room, { ...leave, sender: mallory }, graph)
      const isIn = Effect.map(bob.ask("GET", "//_matrix/client/v3/sync?timeout=0"), ({ body }) =>
        Object.hasOwn(body.rooms.join, room_id)
      )
      yield* net.outer.send(blue, [evil.toPdu(removal)])
      assert.isTrue(yield* isIn)
      yield* evil.tell(blue, removal)
      assert.isFalse(yield* isIn)
      net.outer.respond = () => notFound
    })
  )

  it.effect("a server gets no events of another room by naming them in one of its own", () =>
    Effect.gen(function* () {
      const { alice, evil, red, room_id } = yield* todaysScene(yield* Servers, "11")
      const secret = yield* createRoom(alice, "11", { preset: "private_chat", name: "a secret room" })
      const eventId = yield* say(alice, secret, "a secret message")
      const [here, named] = [encodeURIComponent(room_id), encodeURIComponent(eventId)]
      const missing = { earliest_events: [], latest_events: [eventId], limit: 10 }
      for (const { body, text } of [
        yield* evil.ask(red, "GET", `/v1/backfill/${here}?v=${named}&limit=10`),
        yield* evil.ask(red, "POST", `/v1/get_missing_events/${here}`, missing),
        yield* evil.ask(red, "GET", `/v1/state/${here}?event_id=${named}`),
        yield* evil.ask(red, "GET", `/v1/state_ids/${here}?event_id=${named}`),
        yield* evil.ask(red, "GET", `/v1/event_auth/${here}/${named}`)
      ]) {
        assert.notInclude(text, "a secret")
        for (const given of [body.pdus, body.events, body.pdu_ids, body.auth_chain]) assert.isEmpty(given ?? [])
      }
    })
  )

  it.effect("back-filling gives the named events and what precedes them, each once, up to the limit", () =>
    Effect.gen(function* () {
      const { alice, blue, evil, red, room, room_id } = yield* todaysScene(yield* Servers, "11")
      const sent: Array<string> = []
      for (const text of ["one", "two", "three", "four"]) sent.push(yield* say(alice, room_id, text))
      const [one, two, three, four] = sent
      const backfill = (server: HomeServer, from: ReadonlyArray<string>, limit: number) =>
        Effect.map(
          evil.ask(
            server,
            "GET",
            `/v1/backfill/${encodeURIComponent(room_id)}?limit=${limit}${from.map((id) => `&v=${encodeURIComponent(id)}`).join("")}`
          ),
          ({ body }) =>
            body.pdus.map((pdu: Body) => Result.getOrThrow(roomVersion("11")!.fromPdu(pdu)).event_id as string)
        )
      assert.deepStrictEqual(yield* backfill(red, [two!, four!], 4), [four, two, three, one])
      assert.deepStrictEqual(yield* backfill(red, [three!, four!, two!], 2), [four, three])
      // Blue joined the room later, and knows its beginning as a part of the state alone.
      const { event_id: create } = room.state.get("m.room.create\0")!
      assert.deepStrictEqual(yield* backfill(blue, [create], 10), [create])
    })
  )

  it.effect("missing events are given to a server that has very many forward extremities", () =>
    Effect.gen(function* () {
      const { alice, evil, red, room_id } = yield* todaysScene(yield* Servers, "11")
      const sent: Array<string> = []
      for (const text of ["one", "two", "three"]) sent.push(yield* say(alice, room_id, text))
      const missing = (latest_events: ReadonlyArray<string>) =>
        evil.ask(red, "POST", `/v1/get_missing_events/${encodeURIComponent(room_id)}`, {
          earliest_events: [...Array.from({ length: 1_000 }, () => imaginedHash().event_id), sent[0]!],
          latest_events
        })
      const { body } = yield* missing([sent[2]!])
      const given: ReadonlyArray<string> = body.events.map(
        (pdu: Body) => Result.getOrThrow(roomVersion("11")!.fromPdu(pdu)).event_id
      )
      assert.deepStrictEqual(given, [sent[1]!])
      const many = yield* missing(Array.from({ length: 101 }, () => imaginedHash().event_id))
      assert.deepStrictEqual([many.status, many.body.errcode], [400, "M_BAD_JSON"])
    })
  )

  it.effect("a rejected event is given to a server that asks for it, and does not hide the events before it", () =>
    Effect.gen(function* () {
      const { alice, evil, mallory, red, room, room_id } = yield* todaysScene(yield* Servers, "11")
      const sent = yield* say(alice, room_id, "before")
      const last = yield* evil.receives(({ event_id }) => event_id === sent)
      const topic = { type: "m.room.topic", state_key: "", sender: mallory, content: { topic: "without the power" } }
      const rejected = evil.event(room, topic, { prevEvents: [last] })
      const message = evil.event(room, { sender: mallory }, { prevEvents: [rejected] })
      assert.deepStrictEqual(yield* evil.tell(red, rejected, message), [undefined, undefined])
      const [inRoom, named] = [encodeURIComponent(room_id), encodeURIComponent(rejected.event_id)]
      const { body } = yield* evil.ask(red, "GET", `/v1/event/${named}`)
      assert.deepStrictEqual(body.pdus, [evil.toPdu(rejected)])
      assert.strictEqual((yield* evil.ask(red, "GET", `/v1/state_ids/${inRoom}?event_id=${named}`)).status, 200)
      const wanted = { earliest_events: [], latest_events: [message.event_id], limit: 1 }
      const missing = yield* evil.ask(red, "POST", `/v1/get_missing_events/${inRoom}`, wanted)
      assert.deepStrictEqual(missing.body.events, [evil.toPdu(last)])
      const backfill = yield* evil.ask(red, "GET", `/v1/backfill/${inRoom}?limit=10&v=${named}`)
      assert.isEmpty(backfill.body.pdus)
    })
  )

  it.effect("missing events are those of the wanted depth", () =>
    Effect.gen(function* () {
      const { alice, evil, red, room_id } = yield* todaysScene(yield* Servers, "11")
      const sent: Array<string> = []
      for (const text of ["one", "two", "three", "four"]) sent.push(yield* say(alice, room_id, text))
      const { depth } = yield* evil.receives(({ event_id }) => event_id === sent[1])
      const wanted = { earliest_events: [], latest_events: [sent[3]], limit: 10 }
      const idsFrom = Effect.fnUntraced(function* (min_depth: number) {
        const { body } = yield* evil.ask(red, "POST", `/v1/get_missing_events/${encodeURIComponent(room_id)}`, {
          ...wanted,
          min_depth
        })
        const events = body.events.map((pdu: Body) => Result.getOrThrow(roomVersion("11")!.fromPdu(pdu)))
        return events.map(({ event_id }: Event) => event_id)
      })
      assert.deepStrictEqual(yield* idsFrom(depth), sent.slice(1, 3))
      assert.deepStrictEqual(yield* idsFrom(depth + 1), sent.slice(2, 3))
    })
  )

  it.effect("a transaction that is sent many times concurrently, and again with another body, has one effect", () =>
    Effect.gen(function* () {
      const net = yield* Servers
      const here = yield* todaysScene(net, "11")
      const { alice, evil, mallory, red, room, room_id } = here
      const message = evil.event(room, { sender: mallory, content: { msgtype: "m.text", body: "once" } })
      const other = evil.event(room, { sender: mallory, content: { msgtype: "m.text", body: "never" } })
      const send = (pdu: Body) => evil.send(red, [pdu], { transactionId: "raced" })
      const answers = yield* Effect.forEach(Array.from({ length: 20 }), () => send(evil.toPdu(message)), {
        concurrency: 20
      })
      for (const answer of answers)
        assert.deepStrictEqual([answer.status, answer.body], [200, { pdus: { [message.event_id]: {} } }])
      // The ID belongs to the first body that was sent with it.
      assert.deepStrictEqual((yield* send(evil.toPdu(other))).body, { pdus: { [message.event_id]: {} } })
      const page = yield* expectOk(
        alice.ask("GET", `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/messages?dir=b&limit=20`)
      )
      const bodies: ReadonlyArray<unknown> = page.chunk.map(({ content }: Body) => content.body)
      assert.lengthOf(
        bodies.filter((body) => body === "once"),
        1
      )
      assert.notInclude(bodies, "never")
    })
  )

  it.effect("a message whose power levels are of another room is rejected", () =>
    Effect.gen(function* () {
      const net = yield* Servers
      const here = yield* todaysScene(net, "11")
      const { alice, evil, mallory, red, room, room_id } = here
      const otherId = yield* createRoom(alice, "11", { power_level_content_override: { users_default: 100 } })
      const other = yield* evil.join(red, otherId, mallory)
      const levels = other.state.get("m.room.power_levels\0")!
      const borrowed = evil.event(
        room,
        { sender: mallory, content: { msgtype: "m.text", body: "borrowed" } },
        { state: [levels] }
      )
      yield* evil.tell(red, borrowed)
      const [stored] = yield* red.select(`SELECT status FROM events WHERE event_id = '${borrowed.event_id}'`)
      assert.strictEqual(stored?.status, 3)
      const [at, named] = [room_id, borrowed.event_id].map(encodeURIComponent)
      const asked = yield* evil.ask(red, "GET", `/v1/event_auth/${at}/${named}`)
      assert.deepStrictEqual([asked.status, asked.body.errcode], [404, "M_NOT_FOUND"])
      const receipt = yield* alice.ask("POST", `//_matrix/client/v3/rooms/${at}/receipt/m.read/${named}`, {})
      assert.deepStrictEqual([receipt.status, receipt.body.errcode], [404, "M_NOT_FOUND"])
      assert.notInclude(
        JSON.stringify(
          yield* expectOk(
            alice.ask("GET", `//_matrix/client/v3/rooms/${encodeURIComponent(room_id)}/messages?dir=b&limit=20`)
          )
        ),
        "borrowed"
      )
    })
  )

  it.effect(
    "user IDs that clients are not to see outside of events are no heroes, no device list changes and not in the user directory",
    () =>
      Effect.gen(function* () {
        const { alice, bob, evil, mallory, number, red, room_id } = yield* todaysScene(yield* Servers, "11")
        const sync = (more = "") => expectOk(alice.ask("GET", `//_matrix/client/v3/sync?timeout=0${more}`))
        const { next_batch } = yield* sync()
        const late = `@late${number}:evil.test`
        const odd = ["m\u00e4llory", "m llory"].map((localpart) => `@${localpart}${number}:evil.test`)
        for (const user of [...odd, late]) yield* evil.join(red, room_id, user)
        yield* sees(alice, (event) => event.room_id === room_id && isMember(late, "join")(event))
        const { device_lists } = yield* sync(`&since=${next_batch}`)
        assert.deepStrictEqual(device_lists.changed, [late])
        const { rooms } = yield* sync()
        assert.deepStrictEqual(rooms.join[room_id].summary["m.heroes"], [bob.userId, mallory, late])
        const search = { search_term: `llory${number}` }
        const { results } = yield* expectOk(alice.ask("POST", "//_matrix/client/v3/user_directory/search", search))
        assert.deepStrictEqual(
          results.map(({ user_id }: Body) => user_id),
          [mallory]
        )
      })
  )

  it.effect("values that nest deep in invites, messages to devices and answers leave the reads of users usable", () =>
    Effect.gen(function* () {
      const here = yield* todaysScene(yield* Servers, "10")
      const { alice, evil, mallory, number, red } = here
      const depths = [1_000, 4_000, ...Array.from({ length: 24 }, (_, index) => 4_220 + 10 * index), 20_000]
      for (const depth of depths) {
        const deep = `${"[".repeat(depth)}${"]".repeat(depth)}`
        const roomId = `!deep${depth}x${number}:evil.test`
        const version = evil.useVersion(roomId, "10")
        const beside = { roomId, version, state: new Map(), extremities: [imaginedHash()] }
        const invite = evil.event(beside, {
          type: "m.room.member",
          state_key: alice.userId,
          sender: mallory,
          content: { membership: "invite" }
        })
        const shown = `{"type":"m.room.name","state_key":"","sender":"${mallory}","content":{"name":"deep","more":${deep}}}`
        const body = `{"event":${JSON.stringify(evil.toPdu(invite))},"invite_room_state":[${shown}],"room_version":"10"}`
        const path = `/v2/invite/${encodeURIComponent(roomId)}/${encodeURIComponent(invite.event_id)}`
        const invited = yield* evil.ask(red, "PUT", path, undefined, { raw: body })
        assert.strictEqual(invited.status, 200, invited.text)
        const message = `{"edu_type":"m.direct_to_device","content":{"sender":"${mallory}","type":"org.test","message_id":"d${depth}","messages":{"${alice.userId}":{"*":{"more":${deep}}}}}}`
        const transaction = `{"origin":"evil.test","origin_server_ts":1,"pdus":[],"edus":[${message}]}`
        const sent = yield* evil.ask(red, "PUT", `/v1/send/deep${depth}`, undefined, { raw: transaction })
        assert.strictEqual(sent.status, 200, sent.text)
        yield* expectOk(alice.ask("GET", "//_matrix/client/v3/sync?timeout=0"))
        if (depth <= 4_000)
          evil.respond = () => ({ status: 200, body: { displayname: "deep", more: JSON.parse(deep) } })
        const asked = yield* alice.ask(
          "GET",
          `//_matrix/client/v3/profile/${encodeURIComponent(`@deep${depth}:evil.test`)}`
        )
        assert.include([200, 404], asked.status, asked.text)
      }
      yield* isHealthy(red)
    })
  )
})
