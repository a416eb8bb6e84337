import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { askToday, createRoom, gateway, inPath, register, type TestUser } from "../TestGateway.ts"

interface ClientEvent {
  readonly event_id: string
  readonly type: string
  readonly sender: string
  readonly state_key?: string
  readonly content: { readonly [key: string]: unknown }
}

interface Room {
  readonly initial?: boolean
  readonly membership: string
  readonly name?: string | null
  readonly heroes?: ReadonlyArray<{ readonly user_id: string }>
  readonly timeline?: ReadonlyArray<ClientEvent>
  readonly required_state?: ReadonlyArray<ClientEvent>
  readonly lists?: ReadonlyArray<string>
  readonly invite_state?: ReadonlyArray<ClientEvent>
  readonly limited?: boolean
  readonly num_live?: number
  readonly prev_batch?: string
  readonly joined_count?: number
  readonly notification_count?: number
  readonly bump_stamp: number
  readonly is_dm?: boolean
  readonly unstable_expanded_timeline?: boolean
}

interface Answer {
  readonly pos: string
  readonly lists: { readonly [name: string]: { readonly count: number } }
  readonly rooms: { readonly [roomId: string]: Room }
  readonly extensions: {
    readonly account_data?: {
      readonly global?: ReadonlyArray<{ readonly type: string }>
      readonly rooms?: { readonly [roomId: string]: ReadonlyArray<{ readonly type: string }> }
    }
    readonly receipts?: { readonly rooms: { readonly [roomId: string]: { readonly content: object } } }
    readonly typing?: { readonly rooms: { readonly [roomId: string]: { readonly content: object } } }
    readonly to_device?: { readonly next_batch: string; readonly events?: ReadonlyArray<ClientEvent> }
    readonly e2ee?: {
      readonly device_lists?: { readonly changed?: ReadonlyArray<string>; readonly left?: ReadonlyArray<string> }
      readonly device_one_time_keys_count?: { readonly [algorithm: string]: number }
      readonly device_unused_fallback_key_types?: ReadonlyArray<string>
    }
  }
}

const as = (user: TestUser) => (method: string, path: string, json?: unknown) =>
  askToday(method, path, { token: user.token, json })

const path = "/unstable/org.matrix.simplified_msc3575/sync"

const request = (user: TestUser, body: unknown, pos?: string, timeout = 0) => {
  const query = `timeout=${timeout}${pos === undefined ? "" : `&pos=${inPath(pos)}`}`
  return as(user)("POST", `${path}?${query}`, body)
}

const sync = (user: TestUser, body: unknown, pos?: string, timeout?: number) =>
  Effect.map(request(user, body, pos, timeout), ({ body }) => body as unknown as Answer)

/** The request of a client that shows its rooms with the last message. */
const list = (ranges: ReadonlyArray<readonly [number, number]>, more: object = {}) => ({
  conn_id: "rooms",
  lists: { all: { ranges, timeline_limit: 1, required_state: [["m.room.create", ""]], ...more } }
})

/** Lists that show all rooms by ranges which overlap; each asks for `types` types of state of its own. */
const manyLists = (count: number, types: number) => ({
  lists: Object.fromEntries(
    Array.from({ length: count }, (_, index) => [
      `list${index}`,
      {
        ranges: Array.from({ length: 100 }, (_, from) => [from % 7, 9_000_000_000]),
        required_state: Array.from({ length: types }, (_, n) => [`type${index}.${n}`, ""])
      }
    ])
  )
})

let transactions = 0
const say = (user: TestUser, room: string, text: string) =>
  Effect.map(
    as(user)("PUT", `/v3/rooms/${inPath(room)}/send/m.room.message/s${transactions++}`, {
      msgtype: "m.text",
      body: text
    }),
    ({ body }) => body.event_id as unknown as string
  )

const bodies = (room: Room | undefined) =>
  room?.timeline?.flatMap(({ content, type }) => (type === "m.room.message" ? [content.body] : [])) ?? []

const types = (events: ReadonlyArray<{ readonly type: string }> | undefined) => events?.map(({ type }) => type) ?? []

const enter = (host: TestUser, guest: TestUser, room: string) =>
  Effect.andThen(
    as(host)("POST", `/v3/rooms/${inPath(room)}/invite`, { user_id: guest.id }),
    as(guest)("POST", `/v3/rooms/${inPath(room)}/join`, {})
  )

const enabled = { enabled: true }

const elementXState = [
  ["m.room.name", ""],
  ["m.room.encryption", ""],
  ["m.room.member", "$LAZY"],
  ["m.room.member", "$ME"],
  ["m.room.topic", ""],
  ["m.room.avatar", ""],
  ["m.room.canonical_alias", ""],
  ["m.room.power_levels", ""],
  ["org.matrix.msc3401.call.member", "*"],
  ["m.room.join_rules", ""],
  ["m.room.tombstone", ""],
  ["m.room.create", ""],
  ["m.room.history_visibility", ""],
  ["io.element.functional_members", ""],
  ["m.space.parent", "*"],
  ["m.space.child", "*"],
  ["org.matrix.msc3672.beacon_info", "*"]
]

const notificationState = [
  ["m.room.encryption", ""],
  ["m.room.member", "$LAZY"],
  ["m.room.member", "$ME"],
  ["m.room.canonical_alias", ""],
  ["m.room.name", ""],
  ["m.room.avatar", ""],
  ["m.room.power_levels", ""],
  ["m.room.join_rules", ""],
  ["org.matrix.msc3401.call.member", "*"],
  ["m.room.create", ""],
  ["io.element.functional_members", ""]
]

/** The requests of matrix-sdk-ui 0.18: RoomListService, EncryptionSyncService and NotificationClient. */
const elementX = {
  roomList: (ranges: ReadonlyArray<readonly [number, number]>, opened?: string) => ({
    conn_id: "room-list",
    lists: { all_rooms: { ranges, required_state: elementXState, timeline_limit: 1, filters: {} } },
    ...(opened === undefined
      ? {}
      : {
          room_subscriptions: {
            [opened]: { required_state: [...elementXState, ["m.room.pinned_events", ""]], timeline_limit: 20 }
          }
        }),
    extensions: { account_data: enabled, receipts: { ...enabled, rooms: ["*"] }, typing: enabled }
  }),
  encryption: (since?: string) => ({
    conn_id: "encryption",
    extensions: { to_device: { ...enabled, ...(since === undefined ? {} : { since }) }, e2ee: enabled }
  }),
  notification: (room: string) => ({
    conn_id: "notifications",
    lists: {
      invites: {
        ranges: [[0, 16]],
        required_state: notificationState,
        timeline_limit: 8,
        filters: { is_invite: true }
      }
    },
    room_subscriptions: { [room]: { required_state: notificationState, timeline_limit: 16 } },
    extensions: { account_data: enabled }
  })
}

/** Checks what the types of ruma demand: a field of another type fails the whole answer in matrix-rust-sdk. */
const readsAsRust = ({ extensions, lists, pos, rooms }: Answer) => {
  const isOneOf = (kinds: ReadonlyArray<string>, value: unknown) =>
    assert.include(kinds, value === null ? "null" : typeof value)
  const isCount = (value: unknown) =>
    assert.isTrue(value === undefined || (Number.isSafeInteger(value) && Number(value) >= 0), String(value))
  assert.isString(pos)
  for (const { count } of Object.values(lists)) isCount(count)
  for (const room of Object.values(rooms)) {
    const fields: { readonly [key: string]: unknown } = { ...room }
    for (const key of ["name", "avatar"]) isOneOf(["string", "null", "undefined"], fields[key])
    for (const key of ["initial", "is_dm", "limited"]) isOneOf(["boolean", "undefined"], fields[key])
    isOneOf(["string", "undefined"], room.prev_batch)
    for (const key of ["joined_count", "invited_count", "num_live", "bump_stamp"]) isCount(fields[key])
    for (const key of ["notification_count", "highlight_count"]) isCount(fields[key])
    for (const { user_id } of room.heroes ?? []) assert.isString(user_id)
    for (const event of [...(room.timeline ?? []), ...(room.required_state ?? [])]) {
      assert.containsAllKeys(event, ["type", "event_id", "sender", "origin_server_ts", "content"])
    }
    for (const event of [...(room.required_state ?? []), ...(room.invite_state ?? [])]) {
      assert.containsAllKeys(event, ["type", "state_key", "sender", "content"])
    }
  }
  for (const count of Object.values(extensions.e2ee?.device_one_time_keys_count ?? {})) isCount(count)
  for (const event of extensions.to_device?.events ?? []) assert.containsAllKeys(event, ["type", "sender", "content"])
  for (const receipt of Object.values(extensions.receipts?.rooms ?? {})) assert.isObject(receipt.content)
}

layer(gateway, { excludeTestServices: true })("sliding sync", (it) => {
  it.effect("is announced", () =>
    Effect.gen(function* () {
      const { body } = yield* askToday("GET", "/versions")
      assert.deepInclude(body.unstable_features as object, { "org.matrix.simplified_msc3575": true })
    })
  )

  it.effect("shows a window of rooms, the most recent first, and its updates, each event once", () =>
    Effect.gen(function* () {
      const alice = yield* register("window-alice")
      const rooms: Array<string> = []
      for (const name of ["a", "b", "c"]) rooms.push(yield* createRoom(alice, { name }))
      const [a = "", b = "", c = ""] = rooms
      yield* say(alice, a, "first")

      const first = yield* sync(alice, list([[0, 1]]))
      assert.deepStrictEqual(first.lists, { all: { count: 3 } })
      assert.sameMembers(Object.keys(first.rooms), [a, c])
      assert.deepInclude(first.rooms[a], { initial: true, membership: "join", name: "a", limited: true, num_live: 0 })
      assert.deepStrictEqual(bodies(first.rooms[a]), ["first"])
      assert.deepStrictEqual(types(first.rooms[a]?.required_state), ["m.room.create"])

      const nothing = yield* sync(alice, list([[0, 1]]), first.pos)
      assert.deepStrictEqual(nothing.rooms, {})
      assert.deepStrictEqual(nothing.lists, { all: { count: 3 } })

      yield* say(alice, a, "second")
      const second = yield* sync(alice, list([[0, 1]]), nothing.pos)
      assert.deepStrictEqual(Object.keys(second.rooms), [a])
      assert.notProperty(second.rooms[a], "initial")
      assert.deepInclude(second.rooms[a], { num_live: 1, limited: false })
      assert.deepStrictEqual(bodies(second.rooms[a]), ["second"])
      assert.isAbove(second.rooms[a]?.bump_stamp ?? 0, first.rooms[a]?.bump_stamp ?? 0)
      assert.deepStrictEqual(second.rooms[a]?.required_state, [])

      // A larger window brings the rooms that it adds.
      const third = yield* sync(alice, list([[0, 9]]), second.pos)
      assert.deepStrictEqual(Object.keys(third.rooms), [b])
      assert.isTrue(third.rooms[b]?.initial)
    })
  )

  it.effect("a room that left the window and comes back continues at the client's position", () =>
    Effect.gen(function* () {
      const alice = yield* register("back-alice")
      const a = yield* createRoom(alice, { name: "a" })
      const b = yield* createRoom(alice, { name: "b" })
      const narrow = list([[0, 0]], { timeline_limit: 10 })
      const first = yield* sync(alice, narrow)
      assert.deepStrictEqual(Object.keys(first.rooms), [b])
      yield* say(alice, a, "in a")
      const second = yield* sync(alice, narrow, first.pos)
      assert.deepStrictEqual(Object.keys(second.rooms), [a])
      yield* say(alice, b, "one")
      yield* say(alice, a, "two")
      const third = yield* sync(alice, narrow, second.pos)
      assert.deepStrictEqual(Object.keys(third.rooms), [a])
      yield* say(alice, b, "three")
      const fourth = yield* sync(alice, narrow, third.pos)
      assert.deepStrictEqual(Object.keys(fourth.rooms), [b])
      assert.notProperty(fourth.rooms[b], "initial")
      assert.deepStrictEqual(bodies(fourth.rooms[b]), ["one", "three"])
    })
  )

  it.effect(
    "a repeated position is answered again; an older one, a foreign one and one that is none are M_UNKNOWN_POS",
    () =>
      Effect.gen(function* () {
        const alice = yield* register("repeat-alice")
        const bob = yield* register("repeat-bob")
        const a = yield* createRoom(alice, { name: "a" })
        const b = yield* createRoom(alice, { name: "b" })
        const first = yield* sync(alice, list([[0, 0]]))
        yield* say(alice, a, "hello")
        const second = yield* sync(alice, list([[0, 0]]), first.pos)
        const again = yield* sync(alice, list([[0, 0]]), first.pos)
        assert.deepStrictEqual(Object.keys(again.rooms), Object.keys(second.rooms))
        assert.deepStrictEqual(bodies(again.rooms[a]), ["hello"])
        yield* say(alice, b, "more")
        const third = yield* sync(alice, list([[0, 0]]), again.pos)
        assert.deepStrictEqual(bodies(third.rooms[b]), ["more"])
        yield* say(alice, a, "still more")
        yield* sync(alice, list([[0, 0]]), third.pos)

        for (const [user, pos] of [
          [alice, first.pos],
          [bob, third.pos],
          [alice, "nonsense"],
          [alice, third.pos.replace(/_[^_]*$/, "_elsewhere")]
        ] as const) {
          const refused = yield* request(user, list([[0, 0]]), pos)
          assert.strictEqual(refused.status, 400)
          assert.strictEqual(refused.body.errcode, "M_UNKNOWN_POS")
        }
      })
  )

  it.effect("a request that waits is answered by the next message, or with nothing when its time is over", () =>
    Effect.gen(function* () {
      const alice = yield* register("wait-alice")
      const bob = yield* register("wait-bob")
      const room = yield* createRoom(alice)
      yield* enter(alice, bob, room)
      const first = yield* sync(bob, list([[0, 9]]))
      const waiting = yield* Effect.forkChild(sync(bob, list([[0, 9]]), first.pos, 20_000))
      yield* say(alice, room, "wake up")
      const answer = yield* Fiber.join(waiting)
      assert.deepStrictEqual(bodies(answer.rooms[room]), ["wake up"])
      assert.strictEqual(answer.rooms[room]?.notification_count, 1)
      const late = yield* sync(bob, list([[0, 9]]), answer.pos, 1)
      assert.deepStrictEqual(late.rooms, {})
    })
  )

  it.effect("a subscription brings a room that is in no window, with more of its timeline when it asks for more", () =>
    Effect.gen(function* () {
      const alice = yield* register("sub-alice")
      const room = yield* createRoom(alice, { name: "subscribed" })
      for (const text of ["1", "2", "3"]) yield* say(alice, room, text)
      const first = yield* sync(alice, list([[0, 9]]))
      assert.deepStrictEqual(bodies(first.rooms[room]), ["3"])
      const open = {
        ...list([[0, 9]]),
        room_subscriptions: { [room]: { timeline_limit: 3, required_state: [["m.room.name", ""]] } }
      }
      const opened = yield* sync(alice, open, first.pos)
      assert.deepStrictEqual(bodies(opened.rooms[room]), ["1", "2", "3"])
      assert.isTrue(opened.rooms[room]?.unstable_expanded_timeline)
      assert.deepStrictEqual(types(opened.rooms[room]?.required_state), ["m.room.name"])
      assert.deepStrictEqual((yield* sync(alice, open, opened.pos)).rooms, {})

      const stranger = yield* register("sub-stranger")
      const refused = yield* sync(stranger, { room_subscriptions: { [room]: { timeline_limit: 3 } } })
      assert.deepStrictEqual(refused.rooms, {})
    })
  )

  it.effect("required state: the user's own membership, lazily loaded members, wildcards, and changes", () =>
    Effect.gen(function* () {
      const alice = yield* register("state-alice")
      const bob = yield* register("state-bob")
      const carol = yield* register("state-carol")
      const room = yield* createRoom(alice, { name: "before" })
      yield* enter(alice, bob, room)
      yield* enter(alice, carol, room)
      yield* say(bob, room, "hello")
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

      yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/state/m.room.name`, { name: "after" })
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

  it.effect("invitations come with stripped state; joining brings the room, leaving is sent once", () =>
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
      yield* say(alice, room, "not for bob yet")
      assert.deepStrictEqual((yield* sync(bob, list([[0, 9]]), invited.pos)).rooms, {})

      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/join`, {})
      const joined = yield* sync(bob, list([[0, 9]]), invited.pos)
      assert.deepInclude(joined.rooms[room], { initial: true, membership: "join", name: "party" })
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      yield* say(alice, room, "bob is gone")
      const left = yield* sync(bob, list([[0, 9]]), joined.pos)
      assert.strictEqual(left.rooms[room]?.membership, "leave")
      assert.deepStrictEqual(bodies(left.rooms[room]), [])
      assert.strictEqual(left.lists.all?.count, 0)
      assert.deepStrictEqual((yield* sync(bob, list([[0, 9]]), left.pos)).rooms, {})
    })
  )

  it.effect("a declined invitation and a refused knock show nothing of what happened meanwhile", () =>
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
      const happens = Effect.fnUntraced(function* (room: string) {
        yield* say(alice, room, "not for bob")
        yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/state/m.room.name`, { name: "hidden name" })
        yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/state/m.room.topic`, { topic: "hidden topic" })
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
      yield* happens(invited)
      yield* happens(knocked)
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

  it.effect("invitations of ignored users, or to users who allow none, are in no list", () =>
    Effect.gen(function* () {
      const alice = yield* register("slide-ignoring")
      const bob = yield* register("slide-ignored")
      const carol = yield* register("slide-heard")
      const path = `/v3/user/${inPath(alice.id)}/account_data/m.ignored_user_list`
      yield* as(alice)("PUT", path, { ignored_users: { [bob.id]: {} } })
      yield* as(bob)("POST", "/v3/createRoom", { invite: [alice.id] })
      const { body } = yield* as(carol)("POST", "/v3/createRoom", { invite: [alice.id] })
      const { lists, rooms } = yield* sync(alice, list([[0, 9]]))
      assert.deepStrictEqual(Object.keys(rooms), [body.room_id])
      assert.deepStrictEqual(Object.values(lists), [{ count: 1 }])
      yield* as(alice)("PUT", path, { ignored_users: {} })
      assert.lengthOf(Object.keys((yield* sync(alice, list([[0, 9]]))).rooms), 2)
      const permission = `/v3/user/${inPath(alice.id)}/account_data/m.invite_permission_config`
      yield* as(alice)("PUT", permission, { default_action: "block" })
      assert.deepStrictEqual((yield* sync(alice, list([[0, 9]]))).rooms, {})
    })
  )

  it.effect("kicked users see it, also on a connection that begins later", () =>
    Effect.gen(function* () {
      const alice = yield* register("kick-alice")
      const bob = yield* register("kick-bob")
      const room = yield* createRoom(alice, { name: "club" })
      yield* enter(alice, bob, room)
      const start = yield* sync(bob, list([[0, 9]]))
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/ban`, { user_id: bob.id })
      yield* say(alice, room, "secret")
      const banned = yield* sync(bob, list([[0, 9]]), start.pos)
      assert.strictEqual(banned.rooms[room]?.membership, "ban")
      assert.notInclude(bodies(banned.rooms[room]), "secret")
      const anew = yield* sync(bob, list([[0, 9]]))
      assert.strictEqual(anew.rooms[room]?.membership, "ban")
      assert.notInclude(bodies(anew.rooms[room]), "secret")
    })
  )

  it.effect("filters choose direct rooms, invitations, encrypted rooms, types, tags and rooms of spaces", () =>
    Effect.gen(function* () {
      const alice = yield* register("filter-alice")
      const bob = yield* register("filter-bob")
      const direct = yield* createRoom(alice, { name: "direct" })
      const secret = yield* createRoom(alice, { name: "secret" })
      const invitation = yield* createRoom(bob, { name: "invitation" })
      const { body } = yield* as(alice)("POST", "/v3/createRoom", { creation_content: { type: "m.space" } })
      const space = body.room_id as unknown as string
      yield* as(alice)("PUT", `/v3/rooms/${inPath(space)}/state/m.space.child/${inPath(secret)}`, { via: ["x.test"] })
      yield* as(alice)("PUT", `/v3/rooms/${inPath(secret)}/state/m.room.encryption`, {
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
      const dm = yield* sync(alice, list([[0, 9]], { filters: { is_dm: true } }))
      assert.isTrue(dm.rooms[direct]?.is_dm)
    })
  )

  it.effect("extensions bring account data, receipts and typing: all at first, and then the updates", () =>
    Effect.gen(function* () {
      const alice = yield* register("ext-alice")
      const bob = yield* register("ext-bob")
      const room = yield* createRoom(alice)
      yield* enter(alice, bob, room)
      const event = yield* say(alice, room, "read me")
      const on = { enabled: true }
      const body = { ...list([[0, 9]]), extensions: { account_data: on, receipts: on, typing: on } }
      yield* as(bob)("PUT", `/v3/user/${inPath(bob.id)}/rooms/${inPath(room)}/account_data/org.example.note`, { a: 1 })
      const first = yield* sync(bob, body)
      assert.include(types(first.extensions.account_data?.global), "m.push_rules")
      assert.deepStrictEqual(types(first.extensions.account_data?.rooms?.[room]), ["org.example.note"])
      assert.notProperty(first.extensions, "typing")

      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/receipt/m.read/${inPath(event)}`, {})
      yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/typing/${inPath(alice.id)}`, { typing: true, timeout: 30_000 })
      yield* as(bob)("PUT", `/v3/user/${inPath(bob.id)}/account_data/org.example.all`, { b: 2 })
      const collect = (
        pos: string,
        seen: ReadonlySet<string>
      ): Effect.Effect<ReadonlySet<string>, never, Effect.Services<ReturnType<typeof sync>>> =>
        Effect.flatMap(sync(bob, body, pos, 20_000), ({ extensions, pos }) => {
          const all = new Set(seen)
          if (types(extensions.account_data?.global).includes("org.example.all")) all.add("account_data")
          if (event in (extensions.receipts?.rooms[room]?.content ?? {})) all.add("receipts")
          if (extensions.typing?.rooms[room] !== undefined) all.add("typing")
          return all.size === 3 ? Effect.succeed(all) : collect(pos, all)
        })
      assert.strictEqual((yield* collect(first.pos, new Set())).size, 3)
      const anew = yield* sync(bob, { ...body, conn_id: "other" })
      assert.property(anew.extensions.receipts?.rooms[room]?.content ?? {}, event)
      assert.property(anew.extensions.typing?.rooms ?? {}, room)
    })
  )

  it.effect("a small window of many rooms has the most recent ones, whatever the order in which they came", () =>
    Effect.gen(function* () {
      const alice = yield* register("recent-alice")
      const rooms: Array<string> = []
      for (let count = 0; count < 40; count++) rooms.push(yield* createRoom(alice))
      const spoken = [3, 35, 18, 7, 22].map((index) => rooms[index]!)
      for (const room of spoken) yield* say(alice, room, "news")
      for (const [from, to] of [
        [0, 0],
        [0, 2],
        [1, 4],
        [0, 39]
      ] as const) {
        const answer = yield* sync(alice, { ...list([[from, to]]), conn_id: `window${from}.${to}` })
        const newest = [...spoken.toReversed(), ...rooms.toReversed().filter((room) => !spoken.includes(room))]
        assert.sameMembers(Object.keys(answer.rooms), newest.slice(from, to + 1))
      }
    })
  )

  it.effect("windows of millions, many connections and wrong settings are bounded", () =>
    Effect.gen(function* () {
      const alice = yield* register("bound-alice")
      const room = yield* createRoom(alice)
      const overlapping = yield* sync(alice, manyLists(100, 10))
      assert.strictEqual(overlapping.rooms[room]?.lists?.length, 100)
      const huge = yield* sync(alice, list([[0, 9_000_000_000]], { timeline_limit: 1_000_000 }))
      assert.deepStrictEqual(Object.keys(huge.rooms), [room])
      let first: Answer | undefined
      for (let count = 0; count < 25; count++) {
        const answer = yield* sync(alice, { ...list([[0, 0]]), conn_id: `c${count}` })
        first ??= answer
      }
      yield* createRoom(alice)
      const messages = `/v3/rooms/${inPath(room)}/messages?dir=b&limit=1&from=${inPath(huge.pos)}`
      assert.strictEqual((yield* as(alice)("GET", messages)).status, 200)
      const forgotten = yield* request(alice, { ...list([[0, 0]]), conn_id: "c0" }, first?.pos)
      assert.strictEqual(forgotten.body.errcode, "M_UNKNOWN_POS")
      for (const wrong of [
        { lists: { all: { ranges: [[0]] } } },
        { lists: { all: { ranges: "all" } } },
        { lists: [] },
        { room_subscriptions: { x: 1 } },
        { extensions: { typing: 1 } },
        manyLists(101, 0),
        manyLists(10, 150),
        list([[0, 0]], { required_state: Array.from({ length: 300 }, () => ["*", "*"]) }),
        { room_subscriptions: Object.fromEntries(Array.from({ length: 10_000 }, (_, n) => [`!${n}:x`, {}])) }
      ]) {
        const refused = yield* request(alice, wrong)
        assert.strictEqual(refused.status, 400, JSON.stringify(wrong))
      }
      for (const wrong of [
        { set_presence: "asleep" },
        { extensions: { to_device: { enabled: true, limit: 0 } } },
        { extensions: { to_device: { enabled: true, since: "nonsense" } } }
      ]) {
        const refused = yield* request(alice, wrong)
        assert.deepStrictEqual([refused.status, refused.body.errcode], [400, "M_INVALID_PARAM"], JSON.stringify(wrong))
      }
    })
  )

  it.effect("the requests of Element X get answers that matrix-rust-sdk reads", () =>
    Effect.gen(function* () {
      const alice = yield* register("x-alice")
      const bob = yield* register("x-bob")
      const encryption = { type: "m.room.encryption", state_key: "", content: { algorithm: "m.megolm.v1.aes-sha2" } }
      const made = yield* as(alice)("POST", "/v3/createRoom", { name: "kitchen", initial_state: [encryption] })
      const room = made.body.room_id as unknown as string
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/invite`, { user_id: bob.id })

      // Both connections begin at once.
      const invited = yield* sync(bob, elementX.roomList([[0, 19]]))
      readsAsRust(invited)
      assert.strictEqual(invited.rooms[room]?.membership, "invite")
      const keys = yield* sync(bob, elementX.encryption())
      readsAsRust(keys)
      assert.isString(keys.extensions.to_device?.next_batch)
      assert.deepStrictEqual(keys.extensions.e2ee?.device_unused_fallback_key_types, [])

      // The window grows, the room is entered and opened.
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/join`, {})
      const joined = yield* sync(bob, elementX.roomList([[0, 0]]), invited.pos)
      readsAsRust(joined)
      const state = joined.rooms[room]?.required_state
      const wanted = ["m.room.create", "m.room.encryption", "m.room.name", "m.room.power_levels", "m.room.join_rules"]
      assert.includeMembers(types(state), [...wanted, "m.room.history_visibility"])
      assert.include(JSON.stringify(state), bob.id)
      for (const text of ["1", "2"]) yield* say(alice, room, text)
      const opened = yield* sync(bob, elementX.roomList([[0, 0]], room), joined.pos)
      readsAsRust(opened)
      assert.deepStrictEqual(bodies(opened.rooms[room]), ["1", "2"])
      assert.deepStrictEqual(opened.lists, { all_rooms: { count: 1 } })

      // A key for the device ends the poll of the encryption connection.
      const polled = yield* Effect.forkChild(
        sync(bob, elementX.encryption(keys.extensions.to_device?.next_batch), keys.pos, 20_000)
      )
      const messages = { [bob.id]: { "*": { ciphertext: "of a room key" } } }
      yield* as(alice)("PUT", "/v3/sendToDevice/m.room.encrypted/x1", { messages })
      const received = yield* Fiber.join(polled)
      readsAsRust(received)
      assert.deepStrictEqual(types(received.extensions.to_device?.events), ["m.room.encrypted"])

      // A push: a connection of its own, that begins anew.
      const eventId = yield* say(alice, room, "pushed")
      const pushed = yield* sync(bob, elementX.notification(room))
      readsAsRust(pushed)
      assert.strictEqual(pushed.rooms[room]?.timeline?.at(-1)?.event_id, eventId)

      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      const left = yield* sync(bob, elementX.roomList([[0, 0]], room), opened.pos)
      readsAsRust(left)
      const own = left.rooms[room]?.required_state?.find(({ state_key }) => state_key === bob.id)
      assert.strictEqual(own?.content.membership, "leave")
    })
  )
})
