import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import {
  as,
  type ClientEvent,
  createRoom,
  gateway,
  inPath,
  joinRoom,
  messageBodies,
  outcome,
  putState,
  register,
  roomWith,
  sendText,
  type TestUser
} from "../TestGateway.ts"

layer(gateway, { excludeTestServices: true })("rooms by today's client API", (it) => {
  it.effect("a server access control list that keeps out the server of its sender is refused", () =>
    Effect.gen(function* () {
      const alice = yield* register("rooms-acl")
      const room = yield* createRoom(alice)
      const put = (content: object) => as(alice)("PUT", `/v3/rooms/${inPath(room)}/state/m.room.server_acl/`, content)
      for (const refused of [{}, { allow: ["*"], deny: ["green.*"] }, { allow: ["*.example"] }]) {
        assert.strictEqual((yield* put(refused)).status, 400)
      }
      assert.strictEqual((yield* put({ allow: ["*"], deny: ["evil.test"] })).status, 200)
    })
  )

  it.effect("a repeated transaction ID sends one event, and is visible to the device of the sender alone", () =>
    Effect.gen(function* () {
      const alice = yield* register("rooms-alice")
      const room = yield* createRoom(alice)
      const path = `/v3/rooms/${inPath(room)}/send/m.room.message/once`
      const json = { msgtype: "m.text", body: "Tea?" }
      const first = yield* as(alice)("PUT", path, json)
      const second = yield* as(alice)("PUT", path, json)
      assert.strictEqual(first.body.event_id, second.body.event_id)
      const read = yield* as(alice)("GET", `/v3/rooms/${inPath(room)}/event/${inPath(first.body.event_id)}`)
      const event = read.body as unknown as ClientEvent
      assert.strictEqual(event.sender, alice.id)
      assert.strictEqual(event.unsigned?.transaction_id, "once")
      assert.notProperty(event, "user_id")
      const bob = yield* register("rooms-bob")
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/join`, {})
      const seen = yield* as(bob)("GET", `/v3/rooms/${inPath(room)}/event/${inPath(first.body.event_id)}`)
      assert.notProperty((seen.body as unknown as ClientEvent).unsigned, "transaction_id")
    })
  )

  it.effect("the canonical alias of a room is an alias of the room, and is removed with it", () =>
    Effect.gen(function* () {
      const alice = yield* register("alias-alice")
      const room = yield* createRoom(alice)
      const other = yield* createRoom(alice)
      const path = `/v3/rooms/${inPath(room)}/state/m.room.canonical_alias/`
      const directory = (name: string) => `/v3/directory/room/${inPath(`#${name}:green.test`)}`
      yield* as(alice)("PUT", directory("alias-here"), { room_id: room })
      yield* as(alice)("PUT", directory("alias-there"), { room_id: other })
      const set = (content: object) => Effect.map(as(alice)("PUT", path, content), ({ body }) => body.errcode)
      assert.strictEqual(yield* set({ alias: "alias-here" }), "M_INVALID_PARAM")
      assert.strictEqual(yield* set({ alias: "#alias-nowhere:green.test" }), "M_BAD_ALIAS")
      assert.strictEqual(yield* set({ alias: "#alias-there:green.test" }), "M_BAD_ALIAS")
      assert.strictEqual(yield* set({ alt_aliases: ["#alias-there:green.test"] }), "M_BAD_ALIAS")
      assert.isUndefined(yield* set({ alias: "#alias-here:green.test", alt_aliases: ["#alias-here:green.test"] }))
      yield* as(alice)("DELETE", directory("alias-here"))
      assert.deepStrictEqual((yield* as(alice)("GET", path)).body as object, {})
      assert.isUndefined(yield* set({}))
    })
  )

  it.effect("aliases of a room of today's versions are in the directory alone, and m.room.aliases is not sent", () =>
    Effect.gen(function* () {
      const [alice, bob] = [yield* register("silent-alice"), yield* register("silent-bob")]
      const alias = (name: string) => `/v3/directory/room/${inPath(`#${name}:green.test`)}`
      for (const room_version of ["1", "5", "12"]) {
        const room = yield* roomWith(alice, [bob], { room_version })
        const add = (user: TestUser, name: string) => as(user)("PUT", alias(name), { room_id: room })
        const [kept, removed] = [`silent-kept-${room_version}`, `silent-removed-${room_version}`]
        for (const name of [kept, removed]) assert.strictEqual((yield* add(alice, name)).status, 200)
        assert.strictEqual((yield* as(bob)("DELETE", alias(kept))).status, 403)
        const change = { users: { [bob.id]: 50 }, events: { "m.room.canonical_alias": 50, "m.room.aliases": 100 } }
        const levels = `/v3/rooms/${inPath(room)}/state/m.room.power_levels`
        const { body: before } = yield* as(alice)("GET", levels)
        const users = { ...(before as unknown as { readonly users: object }).users, ...change.users }
        yield* as(alice)("PUT", levels, { ...before, ...change, users })
        assert.strictEqual((yield* as(bob)("DELETE", alias(removed))).status, 200)
        const { body } = yield* as(alice)("GET", `/v3/rooms/${inPath(room)}/aliases`)
        assert.deepStrictEqual(body as object, { aliases: [`#${kept}:green.test`] })
        const state = (yield* as(alice)("GET", `/v3/rooms/${inPath(room)}/state`)).body as unknown as Array<ClientEvent>
        assert.notInclude(
          state.map(({ type }) => type),
          "m.room.aliases"
        )
      }
    })
  )

  it.effect("an existing alias is refused with 409 M_UNKNOWN for every room, and not changed", () =>
    Effect.gen(function* () {
      const [alice, bob] = [yield* register("taken-alice"), yield* register("taken-bob")]
      const [room, other] = [yield* createRoom(alice), yield* createRoom(bob)]
      assert.strictEqual((yield* joinRoom(bob, room)).status, 200)
      const path = `/v3/directory/room/${inPath("#taken:green.test")}`
      assert.strictEqual((yield* as(alice)("PUT", path, { room_id: room })).text, "{}")
      for (const [user, room_id] of [[alice, room] as const, [bob, room] as const, [bob, other] as const]) {
        const refused = yield* as(user)("PUT", path, { room_id })
        assert.deepStrictEqual([refused.status, refused.body.errcode], [409, "M_UNKNOWN"])
      }
      assert.strictEqual((yield* as(bob)("GET", path)).body.room_id, room)
      assert.strictEqual((yield* as(bob)("DELETE", path)).status, 403, "Bob has not become its creator")
      assert.strictEqual((yield* as(alice)("DELETE", path)).status, 200)
    })
  )

  it.effect("the timeline is read in pages in both directions, with filters", () =>
    Effect.gen(function* () {
      const alice = yield* register("pages-alice")
      const room = yield* createRoom(alice)
      for (const text of ["1", "2", "3", "4", "5"]) yield* sendText(alice, room, text)
      const page = (query: string) => as(alice)("GET", `/v3/rooms/${inPath(room)}/messages?${query}`)
      const filter = inPath(JSON.stringify({ types: ["m.room.message"], lazy_load_members: true }))
      const newest = yield* page(`dir=b&limit=2&filter=${filter}`)
      assert.deepStrictEqual(messageBodies(newest.body.chunk), ["5", "4"])
      assert.lengthOf(newest.body.state as ReadonlyArray<object>, 1)
      const unnamed = yield* page(`dir=b&limit=2&filter=${filter}&from=&to=`)
      assert.deepStrictEqual(messageBodies(unnamed.body.chunk), ["5", "4"], "empty tokens are ignored")
      const older = yield* page(`dir=b&limit=10&filter=${filter}&from=${newest.body.end}`)
      assert.deepStrictEqual(messageBodies(older.body.chunk), ["3", "2", "1"])
      const oldest = yield* page(`dir=b&filter=${filter}&from=${older.body.end}`)
      assert.deepStrictEqual(messageBodies(oldest.body.chunk), [])
      assert.notProperty(oldest.body, "end")
      const forwards = yield* page(`dir=f&limit=3&filter=${filter}`)
      assert.deepStrictEqual(messageBodies(forwards.body.chunk), ["1", "2", "3"])
      const rest = yield* page(`dir=f&filter=${filter}&from=${forwards.body.end}`)
      assert.deepStrictEqual(messageBodies(rest.body.chunk), ["4", "5"])
      const beyond = yield* page(`dir=f&filter=${filter}&from=${rest.body.end}`)
      assert.deepStrictEqual(messageBodies(beyond.body.chunk), [])
      assert.notProperty(beyond.body, "end", "the last page has no token, so that clients stop")
      const related = (filter: object) =>
        Effect.map(page(`dir=f&filter=${inPath(JSON.stringify(filter))}`), ({ body }) => messageBodies(body.chunk))
      const thread = { msgtype: "m.text", body: "reply", "m.relates_to": { rel_type: "m.thread", event_id: "$root" } }
      yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/send/m.room.message/thread`, thread)
      assert.deepStrictEqual(yield* related({ "org.matrix.msc3874.rel_types": ["m.thread"] }), ["reply"])
      assert.notInclude(yield* related({ "org.matrix.msc3874.not_rel_types": ["m.thread"] }), "reply")
      yield* sendText(alice, room, "6")
      const later = yield* page(`dir=f&filter=${filter}&from=${rest.body.end}`)
      assert.deepStrictEqual(messageBodies(later.body.chunk), ["reply", "6"])
      for (const [query, errcode] of [
        ["limit=2", "M_MISSING_PARAM"],
        ["dir=x", "M_INVALID_PARAM"],
        ["dir=b&from=nonsense", "M_INVALID_PARAM"],
        ["dir=b&limit=-1", "M_INVALID_PARAM"],
        [`dir=b&filter=${inPath("{")}`, "M_INVALID_PARAM"]
      ]) {
        assert.strictEqual((yield* page(query!)).body.errcode, errcode, query)
      }
    })
  )

  it.effect("an event is returned with its context and the state at it", () =>
    Effect.gen(function* () {
      const alice = yield* register("context-alice")
      const room = yield* createRoom(alice)
      const ids: Array<string> = []
      for (const text of ["1", "2", "3", "4", "5"]) ids.push(yield* sendText(alice, room, text))
      const { body } = yield* as(alice)("GET", `/v3/rooms/${inPath(room)}/context/${inPath(ids[2]!)}?limit=4`)
      assert.strictEqual((body.event as ClientEvent).event_id, ids[2])
      assert.deepStrictEqual(messageBodies(body.events_before), ["2", "1"])
      assert.deepStrictEqual(messageBodies(body.events_after), ["4", "5"])
      assert.isTrue((body.state as ReadonlyArray<ClientEvent>).some(({ type }) => type === "m.room.create"))
      const types = (json: object) =>
        Effect.map(
          as(alice)(
            "GET",
            `/v3/rooms/${inPath(room)}/context/${inPath(ids[2]!)}?filter=${inPath(JSON.stringify(json))}`
          ),
          ({ body }) => [body.event, ...(body.state as ReadonlyArray<object>)].map((e) => (e as ClientEvent).type)
        )
      const filtered = ["m.room.message", "m.room.create"]
      assert.deepStrictEqual(yield* types({ types: ["m.room.create"] }), filtered, "the filter selects state, too")
      assert.deepStrictEqual(yield* types({ types: ["m.room.create"], lazy_load_members: true }), filtered)
      const missing = yield* as(alice)("GET", `/v3/rooms/${inPath(room)}/context/${inPath("$none:green.test")}`)
      assert.strictEqual(missing.body.errcode, "M_NOT_FOUND")
    })
  )

  it.effect("state is read and set with and without a state key and a trailing slash", () =>
    Effect.gen(function* () {
      const alice = yield* register("state-alice")
      const room = yield* createRoom(alice)
      const state = `/v3/rooms/${inPath(room)}/state`
      yield* as(alice)("PUT", `${state}/m.room.topic/`, { topic: "Tea" })
      yield* as(alice)("PUT", `${state}/org.example.seat/window`, { taken: true })
      assert.deepStrictEqual((yield* as(alice)("GET", `${state}/m.room.topic`)).body, { topic: "Tea" } as never)
      const whole = yield* as(alice)("GET", `${state}/org.example.seat/window?format=event`)
      assert.strictEqual((whole.body as unknown as ClientEvent).state_key, "window")
      assert.strictEqual((yield* as(alice)("GET", `${state}/org.example.seat`)).body.errcode, "M_NOT_FOUND")
      const all = (yield* as(alice)("GET", state)).body as unknown as ReadonlyArray<ClientEvent>
      assert.isTrue(all.some(({ type }) => type === "org.example.seat"))
      const bob = yield* register("state-bob")
      yield* joinRoom(bob, room)
      const same = yield* as(bob)("PUT", `${state}/m.room.topic`, { topic: "Tea" })
      assert.strictEqual(same.status, 403, "setting what is set already takes the power level too")
    })
  )

  it.effect("users who left a room can read events up to their leave, and other users none", () =>
    Effect.gen(function* () {
      const alice = yield* register("left-alice")
      const bob = yield* register("left-bob")
      const eve = yield* register("left-eve")
      const room = yield* createRoom(alice, { visibility: "private", invite: [bob.id] })
      yield* joinRoom(bob, room)
      const before = yield* sendText(alice, room, "before")
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      const after = yield* sendText(alice, room, "after")
      const messages = `/v3/rooms/${inPath(room)}/messages?dir=b&limit=50`
      assert.deepStrictEqual(messageBodies((yield* as(bob)("GET", messages)).body.chunk), ["before"])
      const read = (user: TestUser, id: string) => as(user)("GET", `/v3/rooms/${inPath(room)}/event/${inPath(id)}`)
      assert.strictEqual((yield* read(bob, before)).status, 200)
      assert.strictEqual((yield* read(bob, after)).body.errcode, "M_NOT_FOUND")
      assert.strictEqual((yield* read(eve, before)).body.errcode, "M_NOT_FOUND")
      for (const path of ["state", "members", "joined_members", "messages?dir=b", "state/m.room.name"]) {
        const { body } = yield* as(eve)("GET", `/v3/rooms/${inPath(room)}/${path}`)
        assert.strictEqual(body.errcode, "M_FORBIDDEN", path)
      }
    })
  )

  it.effect("history is visible from the join, from the invitation or to everybody, as the room sets it", () =>
    Effect.gen(function* () {
      const alice = yield* register("history-alice")
      const bob = yield* register("history-bob")
      const eve = yield* register("history-eve")
      const room = yield* createRoom(alice, { visibility: "private" })
      const setVisibility = (history_visibility: string) =>
        as(alice)("PUT", `/v3/rooms/${inPath(room)}/state/m.room.history_visibility`, { history_visibility })
      yield* sendText(alice, room, "shared")
      yield* setVisibility("joined")
      yield* sendText(alice, room, "joined")
      yield* setVisibility("invited")
      yield* sendText(alice, room, "invited, before")
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/invite`, { user_id: bob.id })
      yield* sendText(alice, room, "invited, after")
      yield* setVisibility("joined")
      yield* sendText(alice, room, "joined, after the invitation")
      yield* joinRoom(bob, room)
      yield* sendText(alice, room, "with Bob")
      const messages = `/v3/rooms/${inPath(room)}/messages?dir=f&limit=100`
      const seen = yield* as(bob)("GET", messages)
      assert.deepStrictEqual(messageBodies(seen.body.chunk), ["shared", "invited, after", "with Bob"])
      const filter = inPath(JSON.stringify({ types: ["m.room.message"] }))
      const filtered = yield* as(bob)("GET", `${messages}&filter=${filter}`)
      assert.deepStrictEqual(messageBodies(filtered.body.chunk), ["shared", "invited, after", "with Bob"])
      assert.strictEqual((yield* as(eve)("GET", messages)).body.errcode, "M_FORBIDDEN")
      yield* setVisibility("world_readable")
      yield* sendText(alice, room, "to the world")
      assert.deepStrictEqual(messageBodies((yield* as(eve)("GET", messages)).body.chunk), ["to the world"])
    })
  )

  it.effect("history is visible as the room sets it, however often it did so", () =>
    Effect.gen(function* () {
      const [alice, bob] = [yield* register("often-alice"), yield* register("often-bob")]
      const room = yield* roomWith(alice)
      const show = (history_visibility: string, n = 0) =>
        putState(alice, room, "m.room.history_visibility", { history_visibility, n })
      for (let n = 0; n < 12; n++) yield* show("shared", n)
      yield* sendText(alice, room, "shared")
      yield* show("joined")
      yield* sendText(alice, room, "joined")
      for (let n = 0; n < 12; n++) yield* show("shared", n)
      yield* joinRoom(bob, room)
      const { body } = yield* as(bob)("GET", `/v3/rooms/${inPath(room)}/messages?dir=f&limit=100`)
      assert.deepStrictEqual(messageBodies(body.chunk), ["shared"])
    })
  )

  it.effect("events say what the membership of the reader was when they were sent", () =>
    Effect.gen(function* () {
      const alice = yield* register("was-alice")
      const bob = yield* register("was-bob")
      const room = yield* roomWith(alice)
      const path = `/v3/rooms/${inPath(room)}`
      const first = yield* sendText(alice, room, "before")
      yield* as(alice)("POST", `${path}/invite`, { user_id: bob.id })
      yield* sendText(alice, room, "invited")
      yield* joinRoom(bob, room)
      const last = yield* sendText(alice, room, "joined")
      const membershipsOf = (events: unknown) =>
        (events as ReadonlyArray<ClientEvent>).map(({ unsigned }) => unsigned?.membership)
      const page = yield* as(bob)("GET", `${path}/messages?dir=b&limit=5`)
      assert.deepStrictEqual(membershipsOf(page.body.chunk), ["join", "join", "invite", "invite", "leave"])
      const ofAlice = yield* as(alice)("GET", `${path}/messages?dir=b&limit=5`)
      assert.deepStrictEqual(membershipsOf(ofAlice.body.chunk), ["join", "join", "join", "join", "join"])
      const { body: context } = yield* as(bob)("GET", `${path}/context/${inPath(last)}?limit=4`)
      assert.deepStrictEqual(membershipsOf([context.event]), ["join"])
      assert.deepStrictEqual(membershipsOf(context.events_before), ["join", "invite"])
      const event = yield* as(bob)("GET", `${path}/event/${inPath(first)}`)
      assert.deepStrictEqual(membershipsOf([event.body]), ["leave"])
    })
  )

  it.effect("a user who kicks themselves, as bridges do, leaves with the reason", () =>
    Effect.gen(function* () {
      const alice = yield* register("self-kick-alice")
      const bob = yield* register("self-kick-bob")
      const room = yield* createRoom(alice, { preset: "public_chat" })
      const kick = as(bob)("POST", `/v3/rooms/${inPath(room)}/kick`, { user_id: bob.id, reason: "changed nick" })
      assert.strictEqual((yield* kick).status, 403)
      yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
      assert.strictEqual((yield* kick).status, 200)
      const member = yield* as(alice)("GET", `/v3/rooms/${inPath(room)}/state/m.room.member/${inPath(bob.id)}`)
      assert.deepStrictEqual(member.body as unknown, { membership: "leave", reason: "changed nick" })
    })
  )

  it.effect("a leave has its reason, and a join has custom fields, but no profile of the request", () =>
    Effect.gen(function* () {
      const alice = yield* register("reasons-alice")
      const bob = yield* register("reasons-bob")
      const room = yield* createRoom(alice)
      const membership = Effect.map(
        as(alice)("GET", `/v3/rooms/${inPath(room)}/state/m.room.member/${inPath(bob.id)}`),
        ({ body }) => body as unknown
      )
      const given = { reason: "tea", foo: "bar", membership: "ban", displayname: "Alice" }
      const join = (body: object) => as(bob)("POST", `/v3/join/${inPath(room)}`, body)
      const unsigned = yield* join({ ...given, third_party_signed: {} })
      assert.deepStrictEqual([unsigned.status, unsigned.body.errcode], [400, "M_BAD_JSON"])
      assert.strictEqual((yield* join(given)).status, 200)
      assert.deepStrictEqual(yield* membership, { membership: "join", reason: "tea", foo: "bar" })
      assert.strictEqual((yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, { reason: 7 })).status, 400)
      const leave = as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, { reason: "cold" })
      assert.strictEqual((yield* leave).status, 200)
      assert.strictEqual((yield* leave).status, 200, "a retry, whose first answer may be lost")
      assert.deepStrictEqual(yield* membership, { membership: "leave", reason: "cold" })
    })
  )

  it.effect("events are sent and redacted without a transaction ID, once for every request", () =>
    Effect.gen(function* () {
      const alice = yield* register("untracked-alice")
      const room = yield* createRoom(alice)
      const post = (path: string, json: unknown) => as(alice)("POST", `/v3/rooms/${inPath(room)}/${path}`, json)
      const message = { msgtype: "m.text", body: "Tea?" }
      const first = (yield* post("send/m.room.message", message)).body.event_id
      assert.notStrictEqual((yield* post("send/m.room.message", message)).body.event_id, first)
      assert.strictEqual((yield* post(`redact/${inPath(first)}`, { reason: "spilled" })).status, 200)
      const { body } = yield* as(alice)("GET", `/v3/rooms/${inPath(room)}/messages?dir=f`)
      assert.deepStrictEqual(messageBodies(body.chunk), [undefined, "Tea?"])
    })
  )

  it.effect("a member redacts its own messages, and those of other members only with the power level for it", () =>
    Effect.gen(function* () {
      const alice = yield* register("redacting-alice")
      const bob = yield* register("redacting-bob")
      const room = yield* roomWith(alice, [bob])
      const redact = (user: TestUser, eventId: string) =>
        Effect.map(as(user)("PUT", `/v3/rooms/${inPath(room)}/redact/${inPath(eventId)}/t${eventId}`, {}), outcome)
      const [ofAlice, ofBob, second] = [
        yield* sendText(alice, room, "Alice's"),
        yield* sendText(bob, room, "Bob's"),
        yield* sendText(bob, room, "Bob's second")
      ]
      assert.strictEqual(yield* redact(bob, ofAlice), "403 M_FORBIDDEN")
      assert.strictEqual(yield* redact(bob, ofBob), "200")
      assert.strictEqual(yield* redact(alice, second), "200")
    })
  )

  it.effect("an m.room.redaction that is sent to the room redacts its event, once for each transaction ID", () =>
    Effect.gen(function* () {
      const alice = yield* register("redaction-alice")
      const bob = yield* register("redaction-bob")
      const room = yield* createRoom(alice)
      yield* joinRoom(bob, room)
      const redacts = yield* sendText(alice, room, "Tea?")
      const redact = (user: TestUser, content: unknown) =>
        as(user)("PUT", `/v3/rooms/${inPath(room)}/send/m.room.redaction/r1`, content)
      assert.strictEqual((yield* redact(bob, { redacts })).status, 403)
      for (const content of [{}, { redacts: 7 }, { redacts, reason: 7 }]) {
        assert.strictEqual((yield* redact(alice, content)).body.errcode, "M_BAD_JSON")
      }
      const first = yield* redact(alice, { redacts, reason: "spilled" })
      assert.strictEqual((yield* redact(alice, { redacts, reason: "spilled" })).body.event_id, first.body.event_id)
      const { body } = yield* as(alice)("GET", `/v3/rooms/${inPath(room)}/event/${inPath(first.body.event_id)}`)
      assert.deepInclude(body as object, { redacts, content: { redacts, reason: "spilled" } })
      assert.deepStrictEqual(
        messageBodies((yield* as(bob)("GET", `/v3/rooms/${inPath(room)}/messages?dir=b`)).body.chunk),
        [undefined]
      )
    })
  )

  it.effect("invite, kick, ban and unban change the membership", () =>
    Effect.gen(function* () {
      const alice = yield* register("members-alice")
      const bob = yield* register("members-bob")
      const room = yield* createRoom(alice, { visibility: "private" })
      const act = (action: string) =>
        as(alice)("POST", `/v3/rooms/${inPath(room)}/${action}`, { user_id: bob.id, reason: "why" })
      const membership = Effect.map(
        as(alice)("GET", `/v3/rooms/${inPath(room)}/state/m.room.member/${inPath(bob.id)}`),
        ({ body }) => body.membership
      )
      for (const [action, expected] of [
        ["invite", "invite"],
        ["kick", "leave"],
        ["ban", "ban"],
        ["unban", "leave"]
      ] as const) {
        assert.strictEqual((yield* act(action)).status, 200, action)
        assert.strictEqual(yield* membership, expected)
      }
      const { body } = yield* as(alice)("GET", `/v3/rooms/${inPath(room)}/joined_members`)
      assert.deepStrictEqual(body.joined as object, { [alice.id]: { display_name: "" } })
      assert.include((yield* as(alice)("GET", "/v3/joined_rooms")).body.joined_rooms as never, room)
    })
  )

  it.effect("only users who are banned can be unbanned, and they cannot be kicked: M_BAD_STATE", () =>
    Effect.gen(function* () {
      const alice = yield* register("unban-alice")
      const bob = yield* register("unban-bob")
      const room = yield* createRoom(alice)
      const act = (action: string) => as(alice)("POST", `/v3/rooms/${inPath(room)}/${action}`, { user_id: bob.id })
      yield* joinRoom(bob, room)
      const unban = yield* act("unban")
      assert.deepStrictEqual([unban.status, unban.body.errcode], [403, "M_BAD_STATE"])
      assert.strictEqual((yield* act("ban")).status, 200)
      const kick = yield* act("kick")
      assert.deepStrictEqual([kick.status, kick.body.errcode], [403, "M_BAD_STATE"])
    })
  )

  it.effect("users who have not joined a room cannot be kicked from it", () =>
    Effect.gen(function* () {
      const alice = yield* register("kick-alice")
      const bob = yield* register("kick-bob")
      const room = yield* createRoom(alice)
      const kick = as(alice)("POST", `/v3/rooms/${inPath(room)}/kick`, { user_id: bob.id })
      assert.strictEqual((yield* kick).status, 403)
      yield* joinRoom(bob, room)
      assert.strictEqual((yield* kick).status, 200)
      yield* joinRoom(bob, room)
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      assert.strictEqual((yield* kick).status, 403, "a user who has left")
    })
  )
})
