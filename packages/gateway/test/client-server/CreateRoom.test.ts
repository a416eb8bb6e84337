import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, gateway, inPath, joinRoom, register, stateOf, type TestUser } from "../TestGateway.ts"

const create = (user: TestUser, json: object = {}) => as(user)("POST", "/v3/createRoom", json)

layer(gateway, { excludeTestServices: true })("creating rooms by today's client API", (it) => {
  it.effect("a room has version 12 and is private by default, and its ID has no server name", () =>
    Effect.gen(function* () {
      const alice = yield* register("create-alice")
      const { body } = yield* create(alice)
      assert.match(body.room_id, /^![A-Za-z0-9_-]{43}$/)
      const state = yield* stateOf(alice, body.room_id)
      assert.deepStrictEqual(state("m.room.create"), { room_version: "12" })
      assert.deepStrictEqual(state("m.room.join_rules"), { join_rule: "invite" })
      const bob = yield* register("create-bob")
      assert.strictEqual((yield* joinRoom(bob, body.room_id)).body.errcode, "M_FORBIDDEN")
    })
  )

  for (const version of ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]) {
    it.effect(`users invite, join, send, redact, sync and kick in a room of version ${version}`, () =>
      Effect.gen(function* () {
        const alice = yield* register(`v${version}-alice`)
        const bob = yield* register(`v${version}-bob`)
        const made = yield* create(alice, { room_version: version, name: "Tea", invite: [bob.id], is_direct: true })
        assert.strictEqual(made.status, 200, made.text)
        const room = inPath(made.body.room_id)
        yield* as(bob)("POST", `/v3/join/${room}`, {})
        const sent = yield* as(bob)("PUT", `/v3/rooms/${room}/send/m.room.message/1`, { msgtype: "m.text", body: "hi" })
        assert.strictEqual(sent.status, 200, sent.text)
        const again = yield* as(bob)("PUT", `/v3/rooms/${room}/send/m.room.message/1`, {
          msgtype: "m.text",
          body: "hi"
        })
        assert.strictEqual(again.body.event_id, sent.body.event_id)
        const topic = yield* as(alice)("PUT", `/v3/rooms/${room}/state/m.room.topic`, { topic: "Tea" })
        const powerless = yield* as(bob)("PUT", `/v3/rooms/${room}/redact/${inPath(topic.body.event_id)}/r0`, {})
        assert.strictEqual(powerless.body.errcode, "M_FORBIDDEN")
        const redacted = yield* as(alice)("PUT", `/v3/rooms/${room}/redact/${inPath(sent.body.event_id)}/r1`, {})
        assert.strictEqual(redacted.status, 200, redacted.text)
        const redaction = yield* as(bob)("GET", `/v3/rooms/${room}/event/${inPath(redacted.body.event_id)}`)
        const redacts = sent.body.event_id
        assert.deepInclude(redaction.body as object, { redacts, content: { redacts } })
        const event = yield* as(bob)("GET", `/v3/rooms/${room}/event/${inPath(sent.body.event_id)}`)
        assert.deepStrictEqual(event.body.content, {})
        const refused = yield* as(bob)("PUT", `/v3/rooms/${room}/state/m.room.name`, { name: "Bob's" })
        assert.strictEqual(refused.body.errcode, "M_FORBIDDEN")
        const synced = yield* as(bob)("GET", "/v3/sync")
        const joined = (synced.body.rooms as { readonly join: { readonly [id: string]: unknown } }).join
        assert.property(joined, made.body.room_id)
        const kicked = yield* as(alice)("POST", `/v3/rooms/${room}/kick`, { user_id: bob.id })
        assert.strictEqual(kicked.status, 200, kicked.text)
      })
    )
  }

  it.effect("the preset, initial state, power levels and alias are those of the request", () =>
    Effect.gen(function* () {
      const alice = yield* register("preset-alice")
      const bob = yield* register("preset-bob")
      const made = yield* create(alice, {
        preset: "public_chat",
        visibility: "public",
        room_alias_name: "preset-tea",
        topic: "Tea",
        creation_content: { type: "m.space" },
        initial_state: [
          { type: "m.room.policy", content: { via: "policy.test" } },
          { type: "m.room.history_visibility", content: { history_visibility: "world_readable" } }
        ],
        invite: [bob.id],
        power_level_content_override: { invite: 75 }
      })
      // The policy is the last event: a policy server is asked about every later one.
      const newest = yield* as(alice)("GET", `/v3/rooms/${inPath(made.body.room_id)}/messages?dir=b&limit=1`)
      assert.deepStrictEqual(
        newest.body.chunk.map(({ type }) => type),
        ["m.room.policy"]
      )
      const state = yield* stateOf(alice, made.body.room_id)
      assert.strictEqual(state("m.room.create")?.type, "m.space")
      assert.deepStrictEqual(state("m.room.canonical_alias"), { alias: "#preset-tea:green.test" })
      assert.deepStrictEqual(state("m.room.history_visibility"), { history_visibility: "world_readable" })
      assert.strictEqual(state("m.room.power_levels")?.invite, 75)
      assert.strictEqual((yield* as(bob)("POST", `/v3/join/${inPath("#preset-tea:green.test")}`, {})).status, 200)
      assert.strictEqual((yield* create(alice, { room_alias_name: "preset-tea" })).body.errcode, "M_ROOM_IN_USE")
    })
  )

  it.effect("invalid options are refused with a specific error, and create no room", () =>
    Effect.gen(function* () {
      const alice = yield* register("wrong-alice")
      for (const [json, errcode] of [
        [{ room_version: "99" }, "M_UNSUPPORTED_ROOM_VERSION"],
        [{ preset: "secret_chat" }, "M_BAD_JSON"],
        [{ invite: ["bob"] }, "M_BAD_JSON"],
        [{ creation_content: { additional_creators: "bob" } }, "M_BAD_JSON"],
        [{ room_version: "11", power_level_content_override: { users: { [alice.id]: 0 } } }, "M_INVALID_ROOM_STATE"]
      ] as const) {
        const { body, status } = yield* create(alice, json)
        assert.deepStrictEqual([status, body.errcode], [400, errcode], JSON.stringify(json))
      }
      assert.deepStrictEqual((yield* as(alice)("GET", "/v3/joined_rooms")).body.joined_rooms, [])
    })
  )

  it.effect("the hierarchy of a space has its rooms in order, for users who may see them", () =>
    Effect.gen(function* () {
      const alice = yield* register("space-alice")
      const bob = yield* register("space-bob")
      const room = (json: object) => Effect.map(create(alice, json), ({ body }) => body.room_id)
      const space = yield* room({ preset: "public_chat", name: "Space", creation_content: { type: "m.space" } })
      const [open, closed] = [yield* room({ preset: "public_chat", name: "Open" }), yield* room({ name: "Closed" })]
      for (const [child, order] of [
        [closed, "a"],
        [open, "b"]
      ] as const) {
        yield* as(alice)("PUT", `/v3/rooms/${inPath(space)}/state/m.space.child/${inPath(child)}`, {
          via: ["green.test"],
          order
        })
      }
      yield* as(alice)("PUT", `/v3/rooms/${inPath(open)}/state/m.space.child/${inPath(space)}`, { via: ["green.test"] })
      const names = (user: TestUser, query = "") =>
        Effect.map(as(user)("GET", `/v1/rooms/${inPath(space)}/hierarchy${query}`), ({ body }) =>
          (body.rooms as ReadonlyArray<{ readonly name: string }>).map(({ name }) => name)
        )
      assert.deepStrictEqual(yield* names(alice), ["Space", "Closed", "Open"])
      assert.deepStrictEqual(yield* names(bob), ["Space", "Open"])
      assert.deepStrictEqual(yield* names(bob, "?max_depth=0"), ["Space"])
      assert.deepStrictEqual(yield* names(bob, "?limit=1"), ["Space"])
      const page = (query: string) => as(bob)("GET", `/v1/rooms/${inPath(space)}/hierarchy?limit=1${query}`)
      const from = `&from=${(yield* page("&max_depth=3")).body.next_batch}`
      assert.deepStrictEqual(yield* names(bob, `?limit=1&max_depth=3${from}`), ["Open"])
      for (const changed of [from, `${from}&max_depth=2`, `${from}&max_depth=3&suggested_only=true`, "&from=h1"]) {
        assert.strictEqual((yield* page(changed)).body.errcode, "M_INVALID_PARAM", changed)
      }
      const { body } = yield* as(bob)("GET", `/v1/rooms/${inPath(closed)}/hierarchy`)
      assert.strictEqual(body.errcode, "M_FORBIDDEN")
    })
  )
})
