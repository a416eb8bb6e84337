import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, createRoom, gateway, inPath, outcome, putState, register, roomWith, sendText } from "../TestGateway.ts"
import { bodies, query, sync, types } from "./SyncClient.ts"

layer(gateway, { excludeTestServices: true })("sync: filters, ignored users and invitations", (it) => {
  it.effect("filters select rooms and types", () =>
    Effect.gen(function* () {
      const alice = yield* register("choose-alice")
      const [tea, coffee] = [yield* createRoom(alice), yield* createRoom(alice)]
      yield* sendText(alice, tea, "tea")
      yield* sendText(alice, coffee, "coffee")
      const only = yield* sync(alice, { filter: { room: { rooms: [tea] } } })
      assert.deepStrictEqual(Object.keys(only.rooms.join), [tea])
      const messages = yield* sync(alice, {
        filter: { room: { timeline: { types: ["m.room.mess*"] }, state: { types: [] } } }
      })
      assert.deepStrictEqual(types(messages.rooms.join[tea]?.timeline), ["m.room.message"])
      assert.deepStrictEqual(messages.rooms.join[tea]?.state?.events, [])
    })
  )

  it.effect("filters have few patterns and fields", () =>
    Effect.gen(function* () {
      const alice = yield* register("few-alice")
      const define = (filter: object) =>
        Effect.map(as(alice)("POST", `/v3/user/${inPath(alice.id)}/filter`, filter), outcome)
      const names = (count: number, name: string) => Array.from({ length: count }, (_, index) => `${name}${index}`)
      assert.strictEqual(yield* define({ room: { timeline: { types: names(50, "org.*.x") } } }), "200")
      assert.strictEqual(yield* define({ room: { timeline: { not_types: names(51, "org.*.x") } } }), "400 M_BAD_JSON")
      assert.strictEqual(yield* define({ room: { timeline: { types: names(1_000, "org.x") } } }), "200")
      assert.strictEqual(yield* define({ event_fields: names(50, "content.x") }), "200")
      assert.strictEqual(yield* define({ event_fields: names(51, "content.x") }), "400 M_BAD_JSON")
    })
  )

  it.effect("filters select events by relations, their fields and their format", () =>
    Effect.gen(function* () {
      const alice = yield* register("related-alice")
      const bob = yield* register("related-bob")
      const room = yield* roomWith(alice, [bob])
      const first = yield* sendText(alice, room, "liked")
      yield* sendText(alice, room, "not liked")
      yield* as(bob)("PUT", `/v3/rooms/${inPath(room)}/send/m.reaction/r1`, {
        "m.relates_to": { rel_type: "m.annotation", event_id: first, key: "+" }
      })
      const liked = { related_by_rel_types: ["m.annotation"], related_by_senders: [bob.id] }
      const found = yield* sync(alice, { filter: { room: { timeline: liked } } })
      assert.deepStrictEqual(bodies(found.rooms.join[room]), ["liked"])
      const page = yield* as(alice)("GET", `/v3/rooms/${inPath(room)}/messages?dir=b&${query({ filter: liked })}`)
      assert.deepStrictEqual(
        page.body.chunk.map((event) => event.event_id),
        [first]
      )
      const none = yield* as(alice)(
        "GET",
        `/v3/rooms/${inPath(room)}/messages?dir=b&${query({ filter: { related_by_senders: [alice.id] } })}`
      )
      assert.deepStrictEqual(none.body.chunk, [])
      const slim = yield* sync(alice, {
        filter: { event_fields: ["type", "content.body"], room: { timeline: { limit: 3 } } }
      })
      assert.deepStrictEqual(slim.rooms.join[room]?.timeline.events[0] as unknown, {
        type: "m.room.message",
        content: { body: "liked" }
      })
      const raw = yield* sync(alice, { filter: { event_format: "federation", room: { timeline: { limit: 1 } } } })
      const [pdu] = raw.rooms.join[room]?.timeline.events ?? []
      assert.containsAllKeys(pdu, ["auth_events", "prev_events", "depth", "hashes", "signatures"])
      assert.notProperty(pdu, "event_id")
    })
  )

  it.effect(
    "messages and invitations of ignored users are left out, with and without a wait; state events are not",
    () =>
      Effect.gen(function* () {
        const alice = yield* register("ignoring-alice")
        const bob = yield* register("ignored-bob")
        const room = yield* roomWith(alice, [bob])
        yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/state/m.room.power_levels`, {
          users: { [bob.id]: 50 }
        })
        const path = `/v3/user/${inPath(alice.id)}/account_data/m.ignored_user_list`
        yield* as(alice)("PUT", path, { ignored_users: { [bob.id]: {} } })
        const before = yield* sync(alice)
        yield* sendText(bob, room, "unheard")
        yield* putState(bob, room, "m.room.topic", { topic: "by bob" })
        yield* as(bob)("POST", "/v3/createRoom", { invite: [alice.id] })
        yield* sendText(alice, room, "heard")
        for (const timeout of [0, 1_000]) {
          const { rooms } = yield* sync(alice, { since: before.next_batch, timeout })
          assert.deepStrictEqual(rooms.invite, {})
          assert.deepStrictEqual(bodies(rooms.join[room]), ["heard"])
          assert.isTrue(rooms.join[room]?.timeline.events.some(({ content }) => content.topic === "by bob"))
        }
        yield* as(alice)("PUT", path, { ignored_users: {} })
        const { rooms } = yield* sync(alice)
        assert.deepStrictEqual(bodies(rooms.join[room]), ["unheard", "heard"])
        assert.strictEqual(Object.keys(rooms.invite).length, 1)
      })
  )

  it.effect("a user who blocks invitations gets no new ones, and does not see old ones", () =>
    Effect.gen(function* () {
      const alice = yield* register("wanted-alice")
      const bob = yield* register("blocked-bob")
      const { body: before } = yield* as(bob)("POST", "/v3/createRoom", { invite: [alice.id] })
      const path = `/v3/user/${inPath(alice.id)}/account_data/m.invite_permission_config`
      yield* as(alice)("PUT", path, { default_action: "block" })
      assert.deepStrictEqual((yield* sync(alice)).rooms.invite, {})
      const { body: made } = yield* as(bob)("POST", "/v3/createRoom", {})
      const invite = as(bob)("POST", `/v3/rooms/${inPath(made.room_id)}/invite`, { user_id: alice.id })
      const asState = as(bob)("PUT", `/v3/rooms/${inPath(made.room_id)}/state/m.room.member/${inPath(alice.id)}`, {
        membership: "invite"
      })
      const created = as(bob)("POST", "/v3/createRoom", { invite: [alice.id] })
      for (const refused of [invite, asState, created]) {
        const { body, status } = yield* refused
        assert.deepStrictEqual([status, body.errcode], [403, "M_INVITE_BLOCKED"])
      }
      yield* as(alice)("PUT", path, {})
      assert.deepStrictEqual(Object.keys((yield* sync(alice)).rooms.invite), [before.room_id])
      assert.strictEqual((yield* invite).status, 200)
    })
  )

  it.effect(
    "rules about users decide on invitations before rules about servers, and a list before a stricter one",
    () =>
      Effect.gen(function* () {
        const alice = yield* register("rules-alice")
        const inviters = [yield* register("rules-bob"), yield* register("rules-eve"), yield* register("rules-friend")]
        const path = `/v3/user/${inPath(alice.id)}/account_data/org.matrix.msc4155.invite_permission_config`
        yield* as(alice)("PUT", path, {
          allowed_users: ["@*friend:*"],
          ignored_users: [inviters[0]!.id, null],
          blocked_users: [inviters[0]!.id],
          blocked_servers: ["green.*"]
        })
        const invited = yield* Effect.forEach(inviters, (inviter) =>
          Effect.map(as(inviter)("POST", "/v3/createRoom", { invite: [alice.id] }), ({ body, status }) => ({
            status,
            room: body.room_id
          }))
        )
        assert.deepStrictEqual(
          invited.map(({ status }) => status),
          [200, 403, 200]
        )
        assert.deepStrictEqual(Object.keys((yield* sync(alice)).rooms.invite), [invited[2]?.room])
        yield* as(alice)("PUT", path, {})
        assert.lengthOf(Object.keys((yield* sync(alice)).rooms.invite), 2)
      })
  )
})
