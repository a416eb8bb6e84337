import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, ask, askToday, gateway, inPath, joinRoom, register, stateOf, type TestUser } from "../TestGateway.ts"

const upgrade = (user: TestUser, room: string, json: object) =>
  as(user)("POST", `/v3/rooms/${inPath(room)}/upgrade`, json)

const aliasTarget = (alias: string) =>
  Effect.map(askToday("GET", `/v3/directory/room/${inPath(alias)}`, {}), ({ body }) => body.room_id)

layer(gateway, { excludeTestServices: true })("upgrading rooms", (it) => {
  for (const [from, to] of [
    ["1", "12"],
    ["10", "12"],
    ["11", "6"],
    ["12", "12"]
  ] as const) {
    it.effect(`an upgrade from version ${from} to ${to} keeps the settings of the room`, () =>
      Effect.gen(function* () {
        const name = `up-${from}-${to}`
        const [alice, bob, eve] = yield* Effect.all([
          register(`${name}-alice`),
          register(`${name}-bob`),
          register(`${name}-eve`)
        ])
        const made = yield* as(alice)("POST", "/v3/createRoom", {
          room_version: from,
          preset: "public_chat",
          visibility: "public",
          room_alias_name: name,
          name: "Tea",
          topic: "Green",
          creation_content: { type: "m.space" },
          power_level_content_override: { users: { ...(from === "12" ? {} : { [alice.id]: 100 }), [bob.id]: 60 } }
        })
        const old = made.body.room_id
        yield* joinRoom(bob, old)
        yield* as(alice)("PUT", `/v3/rooms/${inPath(old)}/state/m.space.child/${inPath("!child:green.test")}`, {
          via: ["green.test"]
        })
        yield* as(alice)("POST", `/v3/rooms/${inPath(old)}/ban`, { user_id: eve.id, reason: "noise" })
        yield* as(bob)("PUT", `/v3/user/${inPath(bob.id)}/rooms/${inPath(old)}/tags/m.favourite`, { order: 0.5 })
        yield* as(bob)("PUT", `/v3/user/${inPath(bob.id)}/account_data/m.direct`, { [alice.id]: [old] })
        yield* as(bob)("PUT", `/v3/pushrules/global/room/${inPath(old)}`, { actions: [] })

        const { body, status, text } = yield* upgrade(alice, old, { new_version: to })
        assert.strictEqual(status, 200, text)
        const replacement = body.replacement_room as string
        const state = yield* stateOf(alice, replacement)
        const create = state("m.room.create")!
        assert.strictEqual(create.room_version, to)
        assert.strictEqual(create.type, "m.space")
        assert.strictEqual((create.predecessor as { readonly room_id: string }).room_id, old)
        assert.deepStrictEqual(state("m.room.name"), { name: "Tea" })
        assert.strictEqual(state("m.room.topic")?.topic, "Green")
        assert.deepStrictEqual(state("m.room.join_rules"), { join_rule: "public" })
        assert.deepStrictEqual(state("m.room.member", eve.id), { membership: "ban", reason: "noise" })
        assert.deepStrictEqual(state("m.space.child", "!child:green.test"), { via: ["green.test"] })
        const users = state("m.room.power_levels")?.users as { readonly [userId: string]: number }
        assert.strictEqual(users[bob.id], 60)
        if (to === "12") assert.notProperty(users, alice.id)

        assert.strictEqual(yield* aliasTarget(`#${name}:green.test`), replacement)
        const before = yield* stateOf(alice, old)
        assert.strictEqual(before("m.room.tombstone")?.replacement_room, replacement)
        assert.strictEqual(before("m.room.power_levels")?.events_default, 50)
        assert.strictEqual(before("m.room.power_levels")?.invite, 50)
        const listed = yield* askToday("GET", `/v3/directory/list/room/${inPath(old)}`, {})
        assert.strictEqual(listed.body.visibility, "private")

        yield* joinRoom(bob, replacement)
        const tags = yield* as(bob)("GET", `/v3/user/${inPath(bob.id)}/rooms/${inPath(replacement)}/tags`)
        assert.deepStrictEqual(tags.body.tags, { "m.favourite": { order: 0.5 } })
        const direct = yield* as(bob)("GET", `/v3/user/${inPath(bob.id)}/account_data/m.direct`)
        assert.deepStrictEqual(direct.body[alice.id], [old, replacement])
        const rule = yield* as(bob)("GET", `/v3/pushrules/global/room/${inPath(replacement)}`)
        assert.strictEqual(rule.status, 200, rule.text)
      })
    )
  }

  it.effect("a repeated upgrade creates no second room", () =>
    Effect.gen(function* () {
      const alice = yield* register("again-alice")
      const made = yield* as(alice)("POST", "/v3/createRoom", { room_version: "10" })
      const first = yield* upgrade(alice, made.body.room_id, { new_version: "11" })
      const second = yield* upgrade(alice, made.body.room_id, { new_version: "11" })
      assert.strictEqual(first.status, 200, first.text)
      assert.strictEqual(second.body.replacement_room, first.body.replacement_room)
      const rooms = yield* as(alice)("GET", "/v3/joined_rooms")
      assert.lengthOf(rooms.body.joined_rooms as ReadonlyArray<string>, 2)
    })
  )

  it.effect("an upgrade needs the power level for a tombstone, and a known version", () =>
    Effect.gen(function* () {
      const [alice, bob, eve] = yield* Effect.all([register("who-alice"), register("who-bob"), register("who-eve")])
      const made = yield* as(alice)("POST", "/v3/createRoom", { preset: "public_chat" })
      yield* joinRoom(bob, made.body.room_id)
      for (const user of [bob, eve]) {
        const refused = yield* upgrade(user, made.body.room_id, { new_version: "12" })
        assert.strictEqual(refused.status, 403)
        assert.strictEqual(refused.body.errcode, "M_FORBIDDEN")
      }
      const unknown = yield* upgrade(alice, made.body.room_id, { new_version: "13" })
      assert.strictEqual(unknown.status, 400)
      assert.strictEqual(unknown.body.errcode, "M_UNSUPPORTED_ROOM_VERSION")
      const state = yield* stateOf(alice, made.body.room_id)
      assert.isUndefined(state("m.room.tombstone"))
    })
  )

  it.effect("an upgrade sets additional creators, and keeps restricted joins if the version has them", () =>
    Effect.gen(function* () {
      const [alice, bob] = yield* Effect.all([register("more-alice"), register("more-bob")])
      const restricted = {
        join_rule: "restricted",
        allow: [{ type: "m.room_membership", room_id: "!space:green.test" }]
      }
      const made = yield* as(alice)("POST", "/v3/createRoom", {
        room_version: "10",
        initial_state: [{ type: "m.room.join_rules", content: restricted }]
      })
      const to12 = yield* upgrade(alice, made.body.room_id, { new_version: "12", additional_creators: [bob.id] })
      const state = yield* stateOf(alice, to12.body.replacement_room as string)
      assert.deepStrictEqual(state("m.room.create")?.additional_creators, [bob.id])
      assert.deepStrictEqual(state("m.room.join_rules"), restricted)
      const to7 = yield* upgrade(alice, to12.body.replacement_room as string, { new_version: "7" })
      const older = yield* stateOf(alice, to7.body.replacement_room as string)
      assert.deepStrictEqual(older("m.room.join_rules"), { join_rule: "invite" })
    })
  )

  it.effect("the draft's API upgrades a room of the draft's version to version 12", () =>
    Effect.gen(function* () {
      const alice = yield* register("draft-alice")
      const made = yield* ask("POST", "/createRoom", {
        token: alice.token,
        json: { visibility: "public", room_alias_name: "draft-tea", name: "Tea" }
      })
      const upgraded = yield* ask("POST", `/rooms/${inPath(made.body.room_id)}/upgrade`, {
        token: alice.token,
        json: { new_version: "12" }
      })
      assert.strictEqual(upgraded.status, 200, upgraded.text)
      const replacement = upgraded.body.replacement_room as string
      assert.strictEqual(yield* aliasTarget("#draft-tea:green.test"), replacement)
      const state = yield* stateOf(alice, replacement)
      assert.deepStrictEqual(state("m.room.join_rules"), { join_rule: "public" })
      assert.deepStrictEqual(state("m.room.name"), { name: "Tea" })
      const sent = yield* ask("PUT", `/rooms/${inPath(replacement)}/send/m.room.message/1`, {
        token: alice.token,
        json: { msgtype: "m.text", body: "hi" }
      })
      assert.strictEqual(sent.status, 200, sent.text)
    })
  )
})
