import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, createRoom, gateway, inPath, putState, register, sendText } from "../TestGateway.ts"
import { bodies, inviteAndJoin, list, type Room, sync, types } from "./SlidingSyncClient.ts"

layer(gateway, { excludeTestServices: true })("rooms in sliding sync", (it) => {
  it.effect("required_state selects the own membership, lazily loaded members and wildcards, with changes", () =>
    Effect.gen(function* () {
      const alice = yield* register("state-alice")
      const bob = yield* register("state-bob")
      const carol = yield* register("state-carol")
      const room = yield* createRoom(alice, { name: "before" })
      yield* inviteAndJoin(alice, bob, room)
      yield* inviteAndJoin(alice, carol, room)
      yield* sendText(bob, room, "hello")
      const wants = (required_state: unknown) => ({
        lists: { all: { ranges: [[0, 9]], timeline_limit: 1, required_state } }
      })
      const lazy = wants([
        ["m.room.member", "$LAZY"],
        ["m.room.member", "$ME"],
        ["m.room.name", ""]
      ])
      const first = yield* sync(alice, lazy)
      const members = (room: Room | undefined) =>
        room?.required_state?.flatMap(({ state_key, type }) => (type === "m.room.member" ? [state_key] : [])) ?? []
      assert.sameMembers(members(first.rooms[room]), [alice.id, bob.id])
      assert.strictEqual(first.rooms[room]?.joined_count, 3)

      yield* putState(alice, room, "m.room.name", { name: "after" })
      yield* as(carol)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      const second = yield* sync(alice, lazy, first.pos)
      assert.strictEqual(second.rooms[room]?.name, "after")
      assert.strictEqual(second.rooms[room]?.joined_count, 2)
      assert.include(types(second.rooms[room]?.required_state), "m.room.name")
      assert.include(members(second.rooms[room]), carol.id)

      const everything = yield* sync(alice, wants([["*", "*"]]))
      assert.includeMembers(types(everything.rooms[room]?.required_state), ["m.room.create", "m.room.power_levels"])
      assert.includeMembers(members(everything.rooms[room]), [alice.id, bob.id, carol.id])
      const proposal = yield* sync(alice, {
        lists: {
          all: {
            range: [0, 9],
            timeline_limit: 1,
            required_state: { include: [{}], exclude: [{ type: "m.room.create" }], lazy_members: true }
          }
        }
      })
      assert.notInclude(types(proposal.rooms[room]?.required_state), "m.room.create")
      assert.include(types(proposal.rooms[room]?.required_state), "m.room.power_levels")
      assert.notInclude(members(proposal.rooms[room]), bob.id)
    })
  )

  it.effect("invitations have stripped state, a join returns the whole room, and a leave is sent once", () =>
    Effect.gen(function* () {
      const alice = yield* register("invite-alice")
      const bob = yield* register("invite-bob")
      const room = yield* createRoom(alice, { name: "party" })
      const start = yield* sync(bob, list([[0, 9]]))
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/invite`, { user_id: bob.id })
      const invited = yield* sync(bob, list([[0, 9]]), start.pos)
      assert.strictEqual(invited.rooms[room]?.membership, "invite")
      assert.include(types(invited.rooms[room]?.invite_state), "m.room.name")
      assert.notProperty(invited.rooms[room], "timeline")
      assert.strictEqual(invited.lists.all?.count, 1)
      yield* sendText(alice, room, "not for bob yet")
      assert.deepStrictEqual((yield* sync(bob, list([[0, 9]]), invited.pos)).rooms, {})

      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/join`, {})
      const joined = yield* sync(bob, list([[0, 9]]), invited.pos)
      assert.deepInclude(joined.rooms[room], { initial: true, membership: "join", name: "party" })
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      yield* sendText(alice, room, "bob is gone")
      const left = yield* sync(bob, list([[0, 9]]), joined.pos)
      assert.strictEqual(left.rooms[room]?.membership, "leave")
      assert.deepStrictEqual(bodies(left.rooms[room]), [])
      assert.strictEqual(left.lists.all?.count, 0)
      assert.deepStrictEqual((yield* sync(bob, list([[0, 9]]), left.pos)).rooms, {})
    })
  )

  it.effect("a declined invitation or a refused knock shows no events of the room", () =>
    Effect.gen(function* () {
      const alice = yield* register("outside-alice")
      const bob = yield* register("outside-bob")
      const wants = list([[0, 9]], {
        timeline_limit: 20,
        required_state: [
          ["m.room.member", "$ME"],
          ["m.room.member", "$LAZY"],
          ["m.room.name", ""],
          ["m.room.topic", ""]
        ]
      })
      const changeRoom = Effect.fnUntraced(function* (room: string) {
        yield* sendText(alice, room, "not for bob")
        yield* putState(alice, room, "m.room.name", { name: "hidden name" })
        yield* putState(alice, room, "m.room.topic", { topic: "hidden topic" })
      })
      const invited = yield* createRoom(alice, { name: "party" })
      const made = yield* as(alice)("POST", "/v3/createRoom", { name: "club" })
      const knocked = made.body.room_id as unknown as string
      yield* as(alice)("PUT", `/v3/rooms/${inPath(knocked)}/state/m.room.join_rules`, { join_rule: "knock" })
      yield* as(alice)("POST", `/v3/rooms/${inPath(invited)}/invite`, { user_id: bob.id })
      assert.strictEqual((yield* as(bob)("POST", `/v3/knock/${inPath(knocked)}`, {})).status, 200)
      const first = yield* sync(bob, wants)
      assert.deepStrictEqual(
        [invited, knocked].map((room) => first.rooms[room]?.membership),
        ["invite", "knock"]
      )
      yield* changeRoom(invited)
      yield* changeRoom(knocked)
      yield* as(bob)("POST", `/v3/rooms/${inPath(invited)}/leave`, {})
      yield* as(alice)("POST", `/v3/rooms/${inPath(knocked)}/kick`, { user_id: bob.id })
      const second = yield* sync(bob, wants, first.pos)
      for (const room of [invited, knocked]) {
        const seen = second.rooms[room]
        assert.strictEqual(seen?.membership, "leave")
        assert.deepStrictEqual(types(seen?.timeline), ["m.room.member"])
        assert.notInclude(JSON.stringify(seen), "hidden")
        const own = seen?.required_state?.find(({ state_key }) => state_key === bob.id)
        assert.strictEqual(own?.content.membership, "leave")
        assert.notProperty(seen, "heroes")
      }
      yield* as(alice)("POST", `/v3/rooms/${inPath(knocked)}/ban`, { user_id: bob.id })
      assert.notInclude(JSON.stringify((yield* sync(bob, wants)).rooms), "hidden")
    })
  )

  it.effect("invitations that the user ignores or blocks are in no list", () =>
    Effect.gen(function* () {
      const alice = yield* register("slide-ignoring")
      const bob = yield* register("slide-ignored")
      const carol = yield* register("slide-inviter")
      const path = `/v3/user/${inPath(alice.id)}/account_data/m.ignored_user_list`
      yield* as(alice)("PUT", path, { ignored_users: { [bob.id]: {} } })
      yield* as(bob)("POST", "/v3/createRoom", { invite: [alice.id] })
      const { body } = yield* as(carol)("POST", "/v3/createRoom", { invite: [alice.id] })
      const { lists, rooms } = yield* sync(alice, list([[0, 9]]))
      assert.deepStrictEqual(Object.keys(rooms), [body.room_id])
      assert.deepStrictEqual(Object.values(lists), [{ count: 1 }])
      yield* as(alice)("PUT", path, { ignored_users: {} })
      assert.lengthOf(Object.keys((yield* sync(alice, list([[0, 9]]))).rooms), 2)
      yield* as(alice)("PUT", path, { ignored_users: { [bob.id]: {} } })
      const [fromBob] = Object.keys((yield* sync(bob, list([[0, 9]]))).rooms)
      const subscription = { timeline_limit: 1, required_state: [["m.room.create", ""]] }
      const subscribed = yield* sync(alice, { room_subscriptions: { [fromBob!]: subscription } })
      assert.deepStrictEqual(subscribed.rooms, {}, "nor by a subscription")
      const permission = `/v3/user/${inPath(alice.id)}/account_data/m.invite_permission_config`
      yield* as(alice)("PUT", permission, { default_action: "block" })
      assert.deepStrictEqual((yield* sync(alice, list([[0, 9]]))).rooms, {})
    })
  )

  it.effect("the timeline has no messages of ignored users", () =>
    Effect.gen(function* () {
      const alice = yield* register("slide-deaf")
      const bob = yield* register("slide-unheard")
      const room = yield* createRoom(alice, { name: "club" })
      yield* inviteAndJoin(alice, bob, room)
      const ignored = `/v3/user/${inPath(alice.id)}/account_data/m.ignored_user_list`
      yield* as(alice)("PUT", ignored, { ignored_users: { [bob.id]: {} } })
      yield* sendText(alice, room, "mine")
      yield* sendText(bob, room, "unheard")
      const wants = list([[0, 9]], { timeline_limit: 10 })
      const first = yield* sync(alice, wants)
      assert.deepStrictEqual(bodies(first.rooms[room]), ["mine"])
      yield* sendText(bob, room, "unheard again")
      yield* sendText(alice, room, "mine again")
      const next = yield* sync(alice, wants, first.pos)
      assert.deepStrictEqual(bodies(next.rooms[room]), ["mine again"])
    })
  )

  it.effect("a banned user sees the ban and no later events, on old and new connections", () =>
    Effect.gen(function* () {
      const alice = yield* register("kick-alice")
      const bob = yield* register("kick-bob")
      const room = yield* createRoom(alice, { name: "club" })
      yield* inviteAndJoin(alice, bob, room)
      const start = yield* sync(bob, list([[0, 9]]))
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/ban`, { user_id: bob.id })
      yield* sendText(alice, room, "secret")
      const banned = yield* sync(bob, list([[0, 9]]), start.pos)
      assert.strictEqual(banned.rooms[room]?.membership, "ban")
      assert.notInclude(bodies(banned.rooms[room]), "secret")
      const anew = yield* sync(bob, list([[0, 9]]))
      assert.strictEqual(anew.rooms[room]?.membership, "ban")
      assert.notInclude(bodies(anew.rooms[room]), "secret")
    })
  )

  it.effect("a room from which the user was banned is not moved up by later events", () =>
    Effect.gen(function* () {
      const alice = yield* register("still-alice")
      const bob = yield* register("still-bob")
      const [former, current] = [yield* createRoom(alice), yield* createRoom(alice)]
      for (const room of [former, current]) yield* inviteAndJoin(alice, bob, room)
      yield* as(alice)("POST", `/v3/rooms/${inPath(former)}/ban`, { user_id: bob.id })
      yield* sendText(alice, current, "here")
      yield* sync(bob, list([[0, 9]]))
      yield* sendText(alice, former, "secret")
      // The server has no order of the rooms of a new filter.
      const first = yield* sync(bob, list([[0, 0]], { filters: { not_tags: ["unused"] } }))
      assert.deepStrictEqual([first.lists.all?.count, Object.keys(first.rooms)], [2, [current]])
    })
  )

  it.effect("filters select direct, invited and encrypted rooms, room types, tags and spaces", () =>
    Effect.gen(function* () {
      const alice = yield* register("filter-alice")
      const bob = yield* register("filter-bob")
      const direct = yield* createRoom(alice, { name: "direct" })
      const secret = yield* createRoom(alice, { name: "secret" })
      const invitation = yield* createRoom(bob, { name: "invitation" })
      const { body } = yield* as(alice)("POST", "/v3/createRoom", { creation_content: { type: "m.space" } })
      const space = body.room_id as unknown as string
      yield* as(alice)("PUT", `/v3/rooms/${inPath(space)}/state/m.space.child/${inPath(secret)}`, { via: ["x.test"] })
      yield* putState(alice, secret, "m.room.encryption", {
        algorithm: "m.megolm.v1.aes-sha2"
      })
      yield* as(bob)("POST", `/v3/rooms/${inPath(invitation)}/invite`, { user_id: alice.id })
      yield* as(alice)("PUT", `/v3/user/${inPath(alice.id)}/account_data/m.direct`, { [bob.id]: [direct] })
      yield* as(alice)("PUT", `/v3/user/${inPath(alice.id)}/rooms/${inPath(secret)}/tags/m.favourite`, {})
      for (const [filters, expected] of [
        [{ is_dm: true }, [direct]],
        [{ is_dm: false, is_invite: false, not_room_types: ["m.space"] }, [secret]],
        [{ is_encrypted: true }, [secret]],
        [{ is_invite: true }, [invitation]],
        [{ room_types: ["m.space"] }, [space]],
        [{ room_types: [null], is_invited: false }, [direct, secret]],
        [{ tags: ["m.favourite"] }, [secret]],
        [{ not_tags: ["m.favourite"], is_invite: false }, [direct, space]],
        [{ spaces: [space] }, [secret]]
      ] as const) {
        const answer = yield* sync(alice, list([[0, 9]], { filters }))
        assert.sameMembers(Object.keys(answer.rooms), [...expected], JSON.stringify(filters))
        assert.strictEqual(answer.lists.all?.count, expected.length)
      }
      const removed = `/v3/rooms/${inPath(space)}/state/m.space.child/${inPath(secret)}`
      yield* as(alice)("PUT", removed, {})
      const inSpace = (id: string) =>
        Effect.map(sync(alice, list([[0, 9]], { filters: { spaces: [id] } })), ({ rooms }) => rooms)
      assert.deepStrictEqual(yield* inSpace(space), {}, "a child without servers is none")
      yield* as(bob)("PUT", `/v3/rooms/${inPath(invitation)}/state/m.space.child/${inPath(secret)}`, {
        via: ["x.test"]
      })
      assert.deepStrictEqual(yield* inSpace(invitation), {}, "nor is one of a space that the user is not in")
      const dm = yield* sync(alice, list([[0, 9]], { filters: { is_dm: true } }))
      assert.isTrue(dm.rooms[direct]?.is_dm)
    })
  )
})
