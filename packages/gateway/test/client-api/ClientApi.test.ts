import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { asDraft, ask, createRoom, gateway, inPath, register } from "../TestGateway.ts"

layer(gateway, { excludeTestServices: true })("the draft's client API", (it) => {
  it.effect("a user registers, logs in by name or user ID, and logs one device out", () =>
    Effect.gen(function* () {
      const flows = yield* ask("GET", "/login")
      assert.deepStrictEqual(flows.body.flows, [{ type: "m.login.password" }])
      assert.strictEqual(flows.body.type, "m.login.password")
      assert.deepStrictEqual((yield* ask("GET", "/register")).body, flows.body)
      const alice = yield* register("login-alice")
      assert.strictEqual(alice.id, "@login-alice:green.test")
      const again = yield* ask("POST", "/register", {
        json: { type: "m.login.password", user: "login-alice", password: "other" }
      })
      assert.strictEqual(again.body.errcode, "M_USER_IN_USE")
      const login = (user: string, password: string) =>
        ask("POST", "/login", { json: { type: "m.login.password", user, password } })
      const byName = yield* login("login-alice", "secret-login-alice")
      assert.strictEqual(byName.body.user_id, alice.id)
      assert.strictEqual(byName.body.home_server, "green.test")
      const byId = yield* login(alice.id, "secret-login-alice")
      assert.notStrictEqual(byId.body.access_token, byName.body.access_token)
      for (const wrong of [yield* login(alice.id, "wrong"), yield* login("login-nobody", "wrong")]) {
        assert.strictEqual(wrong.status, 403)
        assert.strictEqual(wrong.body.errcode, "M_FORBIDDEN")
      }
      assert.strictEqual((yield* ask("POST", "/logout", { token: byName.body.access_token })).status, 200)
      const ended = yield* ask("GET", "/initialSync", { token: byName.body.access_token })
      assert.strictEqual(ended.body.errcode, "M_UNKNOWN_TOKEN")
      assert.strictEqual((yield* asDraft(alice)("GET", "/initialSync")).status, 200)
    })
  )

  it.effect("the earliest form of a registration is accepted, and a user ID is allocated if the request has none", () =>
    Effect.gen(function* () {
      const named = yield* ask("POST", "/register", { json: { user_id: "early-bird", password: "secret" } })
      assert.strictEqual(named.body.user_id, "@early-bird:green.test")
      const allocated = yield* ask("POST", "/register", { body: "" })
      assert.strictEqual(allocated.status, 400)
      const empty = yield* ask("POST", "/register", { json: { type: "m.login.password", password: "secret" } })
      assert.match(empty.body.user_id, /^@[^:]+:green\.test$/)
      const unknown = yield* ask("POST", "/register", { json: { type: "m.login.magic" } })
      assert.strictEqual(unknown.status, 400)
      assert.strictEqual(unknown.body.errcode, "M_UNKNOWN")
    })
  )

  it.effect("an unregistered user cannot log in, and the user ID cannot be registered again", () =>
    Effect.gen(function* () {
      const gone = yield* register("gone")
      assert.strictEqual((yield* asDraft(gone)("POST", "/unregister")).status, 200)
      assert.strictEqual((yield* asDraft(gone)("GET", "/initialSync")).body.errcode, "M_UNKNOWN_TOKEN")
      const login = { type: "m.login.password", user: "gone", password: "secret-gone" }
      assert.strictEqual((yield* ask("POST", "/login", { json: login })).status, 403)
      assert.strictEqual((yield* ask("POST", "/register", { json: login })).body.errcode, "M_USER_IN_USE")
    })
  )

  it.effect("unregistered users and unknown names cannot be invited", () =>
    Effect.gen(function* () {
      const alice = yield* register("inviting-alice")
      const gone = yield* register("uninvited")
      const room = `/rooms/${inPath(yield* createRoom(alice))}`
      yield* asDraft(gone)("POST", "/unregister")
      for (const absent of [gone.id, "@nobody-yet:green.test"]) {
        const invitations = [
          asDraft(alice)("POST", `${room}/invite`, { user_id: absent }),
          asDraft(alice)("PUT", `${room}/state/m.room.member/${inPath(absent)}`, { membership: "invite" }),
          asDraft(alice)("POST", "/createRoom", { invite: [alice.id, absent] })
        ]
        for (const invitation of invitations) {
          const refused = yield* invitation
          assert.deepStrictEqual([refused.status, refused.body.errcode], [404, "M_NOT_FOUND"])
          assert.include(refused.body.error, absent)
        }
      }
    })
  )

  it.effect("users create, join by alias, send, redact and kick in a room", () =>
    Effect.gen(function* () {
      const alice = yield* register("meet-alice")
      const bob = yield* register("meet-bob")
      const created = yield* asDraft(alice)("PUT", "/createRoom/1", {
        room_alias_name: "ünïcödé",
        name: "The greenroom",
        topic: "Waiting",
        visibility: "public"
      })
      assert.strictEqual(created.body.room_alias, "#ünïcödé:green.test")
      const repeated = yield* asDraft(alice)("PUT", "/createRoom/1", { room_alias_name: "ünïcödé" })
      assert.deepStrictEqual(repeated.body, created.body)
      const room = `/rooms/${inPath(created.body.room_id)}`
      const alias = inPath("#ünïcödé:green.test")
      assert.strictEqual((yield* asDraft(bob)("GET", `/directory/room/${alias}`)).body.room_id, created.body.room_id)
      assert.strictEqual((yield* asDraft(bob)("POST", `/join/${alias}`)).body.room_id, created.body.room_id)
      // An encoded slash is part of the event type or of the transaction ID.
      const slashed = yield* asDraft(alice)("PUT", `${room}/send/org.example%2Fa/b`, {})
      assert.notStrictEqual(
        (yield* asDraft(alice)("PUT", `${room}/send/org.example/a%2Fb`, {})).body.event_id,
        slashed.body.event_id
      )
      assert.deepStrictEqual((yield* asDraft(alice)("PUT", `${room}/send/org.example%2Fa/b`, {})).body, slashed.body)
      // A semicolon is part of a transaction ID or state key.
      const first = yield* asDraft(alice)("PUT", `${room}/send/org.example/a;1`, {})
      const second = yield* asDraft(alice)("PUT", `${room}/send/org.example/a;2`, {})
      assert.notStrictEqual(second.body.event_id, first.body.event_id)
      assert.deepStrictEqual((yield* asDraft(alice)("PUT", `${room}/send/org.example/a%3B1`, {})).body, first.body)
      yield* asDraft(alice)("PUT", `${room}/state/org.example/a;1`, { of: 1 })
      yield* asDraft(alice)("PUT", `${room}/state/org.example/a;2`, { of: 2 })
      const kept = yield* asDraft(alice)("GET", `${room}/state/org.example/a%3B1`)
      assert.deepStrictEqual<unknown>(kept.body, { of: 1 })
      const sent = yield* asDraft(bob)("POST", `${room}/send/m.room.message`, { msgtype: "m.text", body: "hello" })
      const page = yield* asDraft(alice)("GET", `${room}/messages?limit=1&dir=b&from=END`)
      assert.deepStrictEqual(
        page.body.chunk.map((event) => event.event_id),
        [sent.body.event_id]
      )
      const redacted = yield* asDraft(alice)("PUT", `${room}/redact/${inPath(sent.body.event_id)}/1`, { reason: "no" })
      assert.match(redacted.body.event_id, /^\$/)
      const members = yield* asDraft(alice)("GET", `${room}/members`)
      assert.sameMembers(
        members.body.chunk.map((event) => event.user_id),
        [alice.id, bob.id]
      )
      assert.strictEqual((yield* asDraft(alice)("POST", `${room}/kick`, { user_id: bob.id })).status, 200)
      const refused = yield* asDraft(bob)("POST", `${room}/send/m.room.message`, { msgtype: "m.text", body: "?" })
      assert.strictEqual(refused.body.errcode, "M_FORBIDDEN")
    })
  )

  it.effect("state is set and read by type and key, with or without a slash at the end", () =>
    Effect.gen(function* () {
      const alice = yield* register("state-alice")
      const room = `/rooms/${inPath(yield* createRoom(alice))}`
      assert.strictEqual((yield* asDraft(alice)("PUT", `${room}/state/m.room.name/`, { name: "One" })).status, 200)
      assert.deepStrictEqual((yield* asDraft(alice)("GET", `${room}/state/m.room.name`)).body, { name: "One" } as never)
      const key = inPath("a/b?c#d e")
      yield* asDraft(alice)("PUT", `${room}/state/org.example.type/${key}`, { value: 1 })
      const read = yield* asDraft(alice)("GET", `${room}/state/org.example.type/${key}`)
      assert.deepStrictEqual(read.body, { value: 1 } as never)
      const all = (yield* asDraft(alice)("GET", `${room}/state`)).body as unknown as ReadonlyArray<{
        state_key?: string
      }>
      assert.isTrue(all.some((event) => event.state_key === "a/b?c#d e"))
      const none = yield* asDraft(alice)("GET", `${room}/state/m.room.topic`)
      assert.strictEqual(none.body.errcode, "M_NOT_FOUND")
    })
  )

  it.effect("an event over 64 KiB is M_TOO_LARGE, and nothing is sent", () =>
    Effect.gen(function* () {
      const alice = yield* register("big-alice")
      const room = `/rooms/${inPath(yield* createRoom(alice))}`
      const big = { msgtype: "m.text", body: "x".repeat(70_000) }
      const refused = yield* asDraft(alice)("PUT", `${room}/send/m.room.message/1`, big)
      assert.strictEqual(refused.status, 413, refused.text)
      assert.strictEqual(refused.body.errcode, "M_TOO_LARGE")
      const page = yield* asDraft(alice)("GET", `${room}/messages?limit=1`)
      assert.notInclude(
        page.body.chunk.map((event) => event.type),
        "m.room.message"
      )
    })
  )

  it.effect("users set their own profile, presence and typing, and not those of others", () =>
    Effect.gen(function* () {
      const alice = yield* register("own-alice")
      const bob = yield* register("own-bob")
      const room = yield* createRoom(alice, { visibility: "public" })
      yield* asDraft(bob)("POST", `/join/${inPath(room)}`)
      const profile = `/profile/${inPath(alice.id)}`
      assert.strictEqual((yield* asDraft(alice)("PUT", `${profile}/displayname`, { displayname: "Alice" })).status, 200)
      assert.strictEqual((yield* asDraft(bob)("GET", profile)).body.displayname, "Alice")
      assert.strictEqual((yield* asDraft(bob)("PUT", `${profile}/displayname`, { displayname: "Eve" })).status, 403)
      const presence = `/presence/${inPath(alice.id)}/status`
      const away = { presence: "unavailable", status_msg: "away" }
      assert.strictEqual((yield* asDraft(alice)("PUT", presence, away)).status, 200)
      assert.strictEqual((yield* asDraft(bob)("PUT", presence, away)).status, 403)
      assert.strictEqual((yield* asDraft(alice)("PUT", presence, { presence: "asleep" })).status, 400)
      const typing = `/rooms/${inPath(room)}/typing/${inPath(alice.id)}`
      assert.strictEqual((yield* asDraft(alice)("PUT", typing, { typing: true, timeout: 1_000 })).status, 200)
      assert.strictEqual((yield* asDraft(bob)("PUT", typing, { typing: true })).status, 403)
      assert.strictEqual((yield* asDraft(bob)("GET", `/presence/list/${inPath(alice.id)}`)).status, 403)
    })
  )

  it.effect("an alias is removed by its creator or by a user with power in the room", () =>
    Effect.gen(function* () {
      const alice = yield* register("alias-alice")
      const bob = yield* register("alias-bob")
      const room = yield* createRoom(alice, { visibility: "public", room_alias_name: "alias-hall" })
      yield* asDraft(bob)("POST", `/join/${inPath(room)}`)
      const path = (name: string) => `/directory/room/${inPath(`#${name}:${alice.id.split(":")[1]}`)}`
      const refused = yield* asDraft(bob)("DELETE", path("alias-hall"))
      assert.deepStrictEqual([refused.status, refused.body.errcode], [403, "M_FORBIDDEN"])
      assert.strictEqual((yield* asDraft(bob)("GET", path("alias-hall"))).body.room_id, room)
      for (const name of ["alias-own", "alias-other"]) {
        assert.strictEqual((yield* asDraft(bob)("PUT", path(name), { room_id: room })).status, 200)
      }
      assert.strictEqual((yield* asDraft(bob)("DELETE", path("alias-own"))).status, 200)
      assert.strictEqual((yield* asDraft(alice)("DELETE", path("alias-other"))).status, 200)
      assert.strictEqual((yield* asDraft(alice)("GET", path("alias-other"))).status, 404)
    })
  )

  it.effect("m.room.aliases with an alias of another room, or an unknown alias, is refused", () =>
    Effect.gen(function* () {
      const alice = yield* register("claim-alice")
      const bob = yield* register("claim-bob")
      yield* createRoom(alice, { room_alias_name: "claim-other" })
      const room = yield* createRoom(alice, { visibility: "public", room_alias_name: "claim-own" })
      yield* asDraft(bob)("POST", `/join/${inPath(room)}`)
      const state = `/rooms/${inPath(room)}/state/m.room.aliases`
      const claim = (...aliases: ReadonlyArray<string>) => asDraft(bob)("PUT", `${state}/green.test`, { aliases })
      for (const alias of ["#claim-other:green.test", "#claim-nowhere:green.test"]) {
        const refused = yield* claim("#claim-own:green.test", alias)
        assert.deepStrictEqual([refused.status, refused.body.errcode], [403, "M_FORBIDDEN"])
        assert.include(refused.body.error, alias)
      }
      const foreign = yield* claim("#claim-own:blue.test")
      assert.deepStrictEqual([foreign.status, foreign.body.errcode], [400, "M_BAD_JSON"])
      const elsewhere = yield* asDraft(bob)("PUT", `${state}/blue.test`, { aliases: ["#claim-own:blue.test"] })
      assert.deepStrictEqual([elsewhere.status, elsewhere.body.errcode], [403, "M_FORBIDDEN"])
      assert.strictEqual((yield* claim("#claim-own:green.test")).status, 200)
      const path = `/directory/room/${inPath("#claim-second:green.test")}`
      assert.strictEqual((yield* asDraft(bob)("PUT", path, { room_id: room })).status, 200)
      const { body } = yield* asDraft(bob)("GET", `${state}/green.test`)
      assert.deepStrictEqual(body.aliases, ["#claim-own:green.test", "#claim-second:green.test"])
    })
  )

  it.effect("TURN credentials need an access token", () =>
    Effect.gen(function* () {
      const alice = yield* register("turn-alice")
      const { body } = yield* asDraft(alice)("GET", "/voip/turnServer")
      assert.deepStrictEqual(body.uris, ["turn:turn.test"])
      assert.strictEqual((yield* ask("GET", "/voip/turnServer")).status, 401)
    })
  )
})
