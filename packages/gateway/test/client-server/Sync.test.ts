import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import type { Gateway } from "../../src/Gateway.ts"
import { askToday, createRoom, gateway, inPath, register, type TestUser } from "../TestGateway.ts"

interface ClientEvent {
  readonly event_id: string
  readonly type: string
  readonly origin_server_ts?: number
  readonly sender: string
  readonly state_key?: string
  readonly content: { readonly [key: string]: unknown }
  readonly unsigned?: { readonly membership?: string }
}
interface Events<E = ClientEvent> {
  readonly events: ReadonlyArray<E>
}
interface SyncedRoom {
  readonly timeline: Events & { readonly limited: boolean; readonly prev_batch: string }
  readonly state?: Events
  readonly state_after?: Events
  readonly "org.matrix.msc4222.state_after"?: Events
  readonly summary?: { readonly [key: string]: unknown }
  readonly account_data?: Events<{ readonly type: string; readonly content: object }>
  readonly ephemeral?: Events<{ readonly type: string; readonly content: object }>
}
interface Answer {
  readonly next_batch: string
  readonly account_data: Events<{ readonly type: string; readonly content: object }>
  readonly presence: Events
  readonly rooms: {
    readonly join: { readonly [roomId: string]: SyncedRoom }
    readonly invite: { readonly [roomId: string]: { readonly invite_state: Events } }
    readonly leave: { readonly [roomId: string]: SyncedRoom }
  }
}

const as = (user: TestUser) => (method: string, path: string, json?: unknown) =>
  askToday(method, path, { token: user.token, json })

const query = (options: { readonly [key: string]: unknown }): string =>
  Object.entries(options)
    .map(([key, value]) => `${key}=${inPath(typeof value === "object" ? JSON.stringify(value) : String(value))}`)
    .join("&")

/** An answer leaves out the kinds of rooms that it has none of. */
const noRooms = { join: {}, invite: {}, leave: {} }

const sync = (user: TestUser, options: { readonly [key: string]: unknown } = {}) =>
  Effect.map(as(user)("GET", `/v3/sync?${query(options)}`), ({ body }): Answer => {
    const answer = body as unknown as Answer
    return { ...answer, rooms: { ...noRooms, ...answer.rooms } }
  })

let transactions = 0
const say = (user: TestUser, room: string, text: string) =>
  Effect.map(
    as(user)("PUT", `/v3/rooms/${inPath(room)}/send/m.room.message/t${transactions++}`, {
      msgtype: "m.text",
      body: text
    }),
    ({ body }) => body.event_id
  )

const bodies = (room: SyncedRoom | undefined) =>
  room?.timeline.events.flatMap(({ content, type }) => (type === "m.room.message" ? [content.body] : []))

/** The user's memberships of the room when the last events were sent, each change once. */
const memberships = (room: SyncedRoom | undefined) =>
  room?.timeline.events.map(({ unsigned }) => unsigned?.membership).filter((each, i, all) => each !== all[i - 1])

/** Syncs on until an answer is what is waited for. */
const syncUntil = Effect.fnUntraced(function* (
  user: TestUser,
  since: string,
  isFound: (answer: Answer) => boolean,
  options: { readonly [key: string]: unknown } = {}
): Effect.fn.Return<Answer, never, Gateway> {
  let answer = yield* sync(user, { ...options, since, timeout: 30_000 })
  while (!isFound(answer)) answer = yield* sync(user, { ...options, since: answer.next_batch, timeout: 30_000 })
  return answer
})

const presenceOf = (answer: Answer, user: TestUser) =>
  answer.presence.events.find(({ sender }) => sender === user.id)?.content

const types = (events: Events | undefined) => events?.events.map(({ type }) => type) ?? []

layer(gateway, { excludeTestServices: true })("sync", (it) => {
  it.effect("returns all rooms first, and then the updates, each event once", () =>
    Effect.gen(function* () {
      const alice = yield* register("sync-alice")
      const room = yield* createRoom(alice, { name: "Tea" })
      yield* say(alice, room, "first")
      const first = yield* sync(alice)
      const joined = first.rooms.join[room]
      assert.deepStrictEqual(bodies(joined), ["first"])
      assert.deepInclude(joined?.summary, { "m.joined_member_count": 1, "m.invited_member_count": 0 })
      assert.include(
        first.account_data.events.map(({ type }) => type),
        "m.push_rules"
      )
      assert.deepStrictEqual((yield* sync(alice, { since: first.next_batch })).rooms.join, {})
      yield* say(alice, room, "second")
      const second = yield* sync(alice, { since: first.next_batch })
      assert.deepStrictEqual(bodies(second.rooms.join[room]), ["second"])
      assert.deepStrictEqual(second.rooms.join[room]?.state, { events: [] })
      assert.isFalse(second.rooms.join[room]?.timeline.limited)
      const repeated = yield* sync(alice, { since: first.next_batch })
      assert.deepStrictEqual(bodies(repeated.rooms.join[room]), ["second"])
    })
  )

  it.effect("a gap is limited: the newest events, the state that changed before them, and a token to read on", () =>
    Effect.gen(function* () {
      const alice = yield* register("gap-alice")
      const room = yield* createRoom(alice)
      yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/state/m.room.topic`, { topic: "old" })
      const { next_batch: since } = yield* sync(alice)
      yield* say(alice, room, "1")
      yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/state/m.room.topic`, { topic: "new" })
      for (const text of ["2", "3", "4"]) yield* say(alice, room, text)
      const filter = { room: { timeline: { limit: 2 } } }
      const joined = (yield* sync(alice, { since, filter })).rooms.join[room]
      assert.isTrue(joined?.timeline.limited)
      assert.deepStrictEqual(bodies(joined), ["3", "4"])
      assert.deepStrictEqual(types(joined?.state), ["m.room.topic"])
      assert.deepStrictEqual(joined?.state?.events[0]?.content, { topic: "new" })
      const older = yield* as(alice)(
        "GET",
        `/v3/rooms/${inPath(room)}/messages?dir=b&from=${joined?.timeline.prev_batch}&to=${since}`
      )
      const found = (older.body.chunk as unknown as ReadonlyArray<ClientEvent>).map(
        ({ content }) => content.body ?? "topic"
      )
      assert.deepStrictEqual(found, ["2", "topic", "1"])
    })
  )

  it.effect("with use_state_after the answer has the state at the end of the timeline, under the requested name", () =>
    Effect.gen(function* () {
      const alice = yield* register("after-alice")
      const room = yield* createRoom(alice)
      const { next_batch: since } = yield* sync(alice)
      yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/state/m.room.topic`, { topic: "new" })
      const stable = (yield* sync(alice, { since, use_state_after: true })).rooms.join[room]
      assert.deepStrictEqual(types(stable?.state_after), ["m.room.topic"])
      assert.isUndefined(stable?.state)
      const unstable = yield* sync(alice, { since, "org.matrix.msc4222.use_state_after": true })
      assert.deepStrictEqual(types(unstable.rooms.join[room]?.["org.matrix.msc4222.state_after"]), ["m.room.topic"])
    })
  )

  it.effect("a request that waits is answered by the next message", () =>
    Effect.gen(function* () {
      const alice = yield* register("wait-alice")
      const bob = yield* register("wait-bob")
      const room = yield* createRoom(alice)
      yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
      const { next_batch: since } = yield* sync(bob)
      const waiting = yield* Effect.forkChild(sync(bob, { since, timeout: 60_000 }))
      yield* say(alice, room, "Hello Bob")
      const answer = yield* Fiber.join(waiting)
      assert.deepStrictEqual(bodies(answer.rooms.join[room]), ["Hello Bob"])
      assert.deepStrictEqual(memberships(answer.rooms.join[room]), ["join"])
      const again = yield* Effect.forkChild(sync(bob, { since: answer.next_batch, timeout: 60_000 }))
      const [message] = answer.rooms.join[room]?.timeline.events ?? []
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/receipt/m.read/${inPath(message?.event_id ?? "")}`, {})
      const seen = yield* Fiber.join(again)
      assert.strictEqual(seen.rooms.join[room]?.ephemeral?.events[0]?.type, "m.receipt")
      const data = yield* Effect.forkChild(sync(bob, { since: seen.next_batch, timeout: 60_000 }))
      yield* as(bob)("PUT", `/v3/user/${inPath(bob.id)}/account_data/org.example`, { a: 1 })
      assert.strictEqual((yield* Fiber.join(data)).account_data.events[0]?.type, "org.example")
    })
  )

  it.effect("invitations come with stripped state; joining returns the whole room; leaving ends it", () =>
    Effect.gen(function* () {
      const alice = yield* register("life-alice")
      const bob = yield* register("life-bob")
      const room = yield* createRoom(alice, { visibility: "private", name: "Tea" })
      yield* say(alice, room, "before")
      const start = yield* sync(bob)
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/invite`, { user_id: bob.id })
      const invited = yield* sync(bob, { since: start.next_batch })
      const stripped = invited.rooms.invite[room]?.invite_state.events ?? []
      assert.includeMembers(types({ events: stripped }), ["m.room.create", "m.room.name", "m.room.member"])
      assert.isAbove(Number(stripped.find(({ state_key }) => state_key === bob.id)?.origin_server_ts), 0)
      assert.deepStrictEqual(invited.rooms.join, {})
      yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
      const entered = yield* sync(bob, { since: invited.next_batch })
      const joined = entered.rooms.join[room]
      const told = [...types(joined?.state), ...types(joined?.timeline)]
      assert.includeMembers(told, ["m.room.create", "m.room.power_levels", "m.room.member"])
      assert.deepStrictEqual(bodies(joined), ["before"])
      assert.deepStrictEqual(memberships(joined), ["leave", "invite", "join"])
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/kick`, { user_id: bob.id })
      yield* say(alice, room, "after")
      const ended = yield* sync(bob, { since: entered.next_batch })
      assert.deepStrictEqual(ended.rooms.join, {})
      assert.deepStrictEqual(types(ended.rooms.leave[room]?.timeline), ["m.room.member"])
      assert.deepStrictEqual(memberships(ended.rooms.leave[room]), ["leave"])
      const later = yield* sync(bob, { since: ended.next_batch })
      assert.deepStrictEqual(later.rooms.leave, {})
      assert.notProperty((yield* sync(bob)).rooms.leave, room)
      const withLeft = yield* sync(bob, { filter: { room: { include_leave: true } } })
      assert.deepStrictEqual(bodies(withLeft.rooms.leave[room]), ["before"])
    })
  )

  it.effect(
    "a user who leaves and comes back between two syncs sees the state that changed meanwhile, and no messages",
    () =>
      Effect.gen(function* () {
        const alice = yield* register("away-alice")
        const bob = yield* register("away-bob")
        const carol = yield* register("away-carol")
        const room = yield* createRoom(alice)
        const path = `/v3/rooms/${inPath(room)}`
        yield* as(alice)("PUT", `${path}/state/m.room.history_visibility/`, { history_visibility: "joined" })
        yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
        const { next_batch: since } = yield* sync(bob)
        yield* as(bob)("POST", `${path}/leave`, {})
        yield* say(alice, room, "secret")
        yield* as(carol)("POST", `/v3/join/${inPath(room)}`, {})
        yield* as(alice)("PUT", `${path}/state/m.room.topic/`, { topic: "replaced meanwhile" })
        yield* as(alice)("PUT", `${path}/state/m.room.topic/`, { topic: "Tea" })
        yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
        yield* say(alice, room, "welcome back")
        const joined = (yield* sync(bob, { since })).rooms.join[room]
        assert.deepStrictEqual(bodies(joined), ["welcome back"])
        assert.isTrue(joined?.timeline.limited)
        const topics = joined?.timeline.events.filter(({ type }) => type === "m.room.topic")
        assert.deepStrictEqual(
          topics?.map(({ content }) => content.topic),
          ["Tea"]
        )
        assert.isTrue(joined?.timeline.events.some(({ state_key }) => state_key === carol.id))
        yield* as(bob)("POST", `${path}/leave`, {})
        yield* say(alice, room, "secret again")
        yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
        yield* as(bob)("POST", `${path}/leave`, {})
        const left = (yield* sync(bob, { since })).rooms.leave[room]
        assert.deepStrictEqual(bodies(left), ["welcome back"])
      })
  )

  it.effect("users who refuse an invitation or take back a knock see that, and nothing else of the room", () =>
    Effect.gen(function* () {
      const alice = yield* register("refuse-alice")
      const bob = yield* register("refuse-bob")
      const room = yield* createRoom(alice, { visibility: "private", name: "Tea" })
      const state = (type: string) => `/v3/rooms/${inPath(room)}/state/${type}/`
      yield* as(alice)("PUT", state("m.room.history_visibility"), { history_visibility: "joined" })
      const { next_batch: since } = yield* sync(bob)
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/invite`, { user_id: bob.id })
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      yield* as(alice)("PUT", state("m.room.topic"), { topic: "Secrets" })
      const refused = yield* sync(bob, { since })
      const seesOwnEventAlone = ({ rooms }: Answer) => {
        const left = rooms.leave[room]
        assert.deepStrictEqual(
          left?.timeline.events.map(({ content, state_key }) => [state_key, content.membership]),
          [[bob.id, "leave"]]
        )
        assert.deepStrictEqual(left?.state?.events ?? [], [])
      }
      seesOwnEventAlone(refused)
      assert.deepStrictEqual((yield* sync(bob, { since: refused.next_batch })).rooms.leave, {})
      seesOwnEventAlone(yield* sync(bob, { filter: { room: { include_leave: true } } }))
      yield* as(alice)("PUT", state("m.room.join_rules"), { join_rule: "knock" })
      yield* as(bob)("POST", `/v3/knock/${inPath(room)}`, {})
      const knocked = yield* sync(bob, { since: refused.next_batch })
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      seesOwnEventAlone(yield* sync(bob, { since: knocked.next_batch }))
    })
  )

  it.effect("members are loaded as they are needed, where the filter says so", () =>
    Effect.gen(function* () {
      const alice = yield* register("lazy-alice")
      const users = [yield* register("lazy-bob"), yield* register("lazy-carol"), yield* register("lazy-dan")]
      const room = yield* createRoom(alice)
      for (const user of users) yield* as(user)("POST", `/v3/join/${inPath(room)}`, {})
      for (const n of [1, 2]) yield* say(users[0]!, room, `${n}`)
      const filter = { room: { timeline: { limit: 2 }, state: { lazy_load_members: true } } }
      const first = yield* sync(alice, { filter })
      const members = (room: SyncedRoom | undefined) =>
        room?.state?.events.filter(({ type }) => type === "m.room.member").map(({ state_key }) => state_key)
      assert.sameMembers(members(first.rooms.join[room]) ?? [], [alice.id, users[0]!.id])
      yield* say(users[2]!, room, "3")
      const next = yield* sync(alice, { filter, since: first.next_batch })
      assert.deepStrictEqual(members(next.rooms.join[room]), [users[2]!.id])
    })
  )

  it.effect(
    "a membership is sent to a device once, again after a lost answer or a change, and always where that is asked for",
    () =>
      Effect.gen(function* () {
        const alice = yield* register("once-alice")
        const bob = yield* register("once-bob")
        const room = yield* createRoom(alice)
        yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
        const lazy = { lazy_load_members: true }
        const filter = { room: { timeline: { limit: 1 }, state: lazy } }
        const bobs = (answer: Answer) =>
          answer.rooms.join[room]?.state?.events.filter(({ state_key }) => state_key === bob.id).length
        yield* say(alice, room, "0")
        const first = yield* sync(alice, { filter })
        assert.strictEqual(bobs(first), 0)
        yield* say(bob, room, "1")
        const lost = yield* sync(alice, { filter, since: first.next_batch })
        assert.strictEqual(bobs(lost), 1)
        const repeated = yield* sync(alice, { filter, since: first.next_batch })
        assert.strictEqual(bobs(repeated), 1, "the answer may have been lost")
        for (const [text, options, sent] of [
          ["2", { filter }, 0],
          ["3", { filter: { room: { ...filter.room, state: { ...lazy, include_redundant_members: true } } } }, 1],
          ["4", { filter, full_state: true }, 1],
          ["5", { filter }, 0],
          ["6", { filter, timeout: 10_000 }, 0]
        ] as const) {
          const { next_batch: since } = yield* sync(alice, { filter, since: repeated.next_batch })
          yield* say(bob, room, text)
          assert.strictEqual(bobs(yield* sync(alice, { since, ...options })), sent, text)
        }
        const known = yield* sync(alice, { filter, since: repeated.next_batch })
        const waiting = yield* Effect.forkChild(
          syncUntil(alice, known.next_batch, ({ rooms }) => rooms.join[room] !== undefined, { filter })
        )
        yield* say(bob, room, "7")
        assert.strictEqual(bobs(yield* Fiber.join(waiting)), 0)
        const { next_batch: since } = yield* sync(alice, { filter, since: known.next_batch })
        const membership = `/v3/rooms/${inPath(room)}/state/m.room.member/${inPath(bob.id)}`
        yield* as(bob)("PUT", membership, { membership: "join", displayname: "Bob" })
        yield* say(bob, room, "8")
        assert.strictEqual(bobs(yield* sync(alice, { filter, since })), 1, "it has changed")
        const identifier = { type: "m.id.user", user: "once-alice" }
        const login = { type: "m.login.password", identifier, password: "secret-once-alice" }
        const other = yield* askToday("POST", "/v3/login", { json: login })
        const elsewhere = { ...alice, token: other.body.access_token }
        assert.strictEqual(bobs(yield* sync(elsewhere, { filter })), 1, "another device has nothing yet")
      })
  )

  it.effect("with lazy loading members who left are sent: in the state after the timeline, and after a gap", () =>
    Effect.gen(function* () {
      const alice = yield* register("gone-alice")
      const bob = yield* register("gone-bob")
      const room = yield* createRoom(alice)
      const path = `/v3/rooms/${inPath(room)}`
      const lazy = (limit: number) => ({ room: { timeline: { limit }, state: { lazy_load_members: true } } })
      const bobIn = (events: Events | undefined) =>
        events?.events.find(({ state_key }) => state_key === bob.id)?.content.membership
      const enter = Effect.andThen(
        as(alice)("POST", `${path}/invite`, { user_id: bob.id }),
        as(bob)("POST", `${path}/join`, {})
      )
      const kick = as(alice)("POST", `${path}/kick`, { user_id: bob.id })

      yield* enter
      const { next_batch: since } = yield* sync(bob)
      const { next_batch: aliceSince } = yield* sync(alice)
      yield* kick
      const own = yield* sync(bob, { since, filter: lazy(20), use_state_after: true })
      assert.strictEqual(bobIn(own.rooms.leave[room]?.state_after), "leave")
      for (const text of ["1", "2"]) yield* say(alice, room, text)
      const afterGap = yield* sync(alice, { since: aliceSince, filter: lazy(1) })
      assert.isTrue(afterGap.rooms.join[room]?.timeline.limited)
      assert.strictEqual(bobIn(afterGap.rooms.join[room]?.state), "leave")
    })
  )

  it.effect("typing of a room is sent when it changes, and to a client that is new there", () =>
    Effect.gen(function* () {
      const [alice, bob] = yield* Effect.all([register("typing-alice"), register("typing-bob")])
      const room = yield* createRoom(alice, { visibility: "public" })
      yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
      const before = yield* sync(alice)
      const typing = (answer: Answer) =>
        answer.rooms.join[room]?.ephemeral?.events
          .filter(({ type }) => type === "m.typing")
          .map(({ content }) => (content as { readonly user_ids: ReadonlyArray<string> }).user_ids)
      assert.deepStrictEqual(typing(before), [])
      const waiting = yield* Effect.forkChild(sync(alice, { since: before.next_batch, timeout: 20_000 }))
      const type = (typing: boolean) =>
        as(bob)("PUT", `/v3/rooms/${inPath(room)}/typing/${inPath(bob.id)}`, { typing, timeout: 30_000 })
      yield* type(true)
      const started = yield* Fiber.join(waiting)
      assert.deepStrictEqual(typing(started), [[bob.id]])
      assert.deepStrictEqual(typing(yield* sync(alice)), [[bob.id]])
      assert.isUndefined(typing(yield* sync(alice, { since: started.next_batch })))
      yield* type(false)
      assert.deepStrictEqual(typing(yield* sync(alice, { since: started.next_batch, timeout: 20_000 })), [[]])
    })
  )

  it.effect("account data and receipts of a room are sent when they change", () =>
    Effect.gen(function* () {
      const alice = yield* register("told-alice")
      const bob = yield* register("told-bob")
      const room = yield* createRoom(alice)
      yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
      const message = yield* say(alice, room, "read me")
      const start = yield* sync(alice)
      yield* as(alice)("PUT", `/v3/user/${inPath(alice.id)}/rooms/${inPath(room)}/tags/m.favourite`, {})
      yield* as(alice)("PUT", `/v3/user/${inPath(alice.id)}/account_data/org.example`, { a: 1 })
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/receipt/m.read/${inPath(message)}`, {})
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/receipt/m.read.private/${inPath(message)}`, {})
      const told = yield* sync(alice, { since: start.next_batch })
      assert.deepStrictEqual(told.account_data.events, [{ type: "org.example", content: { a: 1 } }])
      const joined = told.rooms.join[room]
      assert.deepStrictEqual(joined?.account_data?.events, [
        { type: "m.tag", content: { tags: { "m.favourite": {} } } }
      ])
      const receipts = joined?.ephemeral?.events[0]?.content as { readonly [event: string]: object }
      assert.deepStrictEqual(Object.keys(receipts[message] ?? {}), ["m.read"])
      assert.deepStrictEqual((yield* sync(alice, { since: told.next_batch })).rooms.join, {})
      const own = yield* sync(bob, { since: start.next_batch })
      const seen = own.rooms.join[room]?.ephemeral?.events[0]?.content as { readonly [event: string]: object }
      assert.sameMembers(Object.keys(seen[message] ?? {}), ["m.read", "m.read.private"])
    })
  )

  it.effect("a waiting client gets from memory the same as from the store: members, counts, threads, tokens", () =>
    Effect.gen(function* () {
      const alice = yield* register("live-alice")
      const bob = yield* register("live-bob")
      const { body: made } = yield* as(alice)("POST", "/v3/createRoom", { preset: "public_chat" })
      const room = made.room_id
      yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
      const filter = {
        presence: { types: [] },
        room: { state: { lazy_load_members: true }, timeline: { unread_thread_notifications: true } }
      }
      const root = yield* say(alice, room, "root")
      let { next_batch: since } = yield* sync(bob, { filter })
      const send = (content: object) =>
        as(alice)("PUT", `/v3/rooms/${inPath(room)}/send/m.room.message/live${transactions++}`, content)
      // The store tells the summary with every member; nothing in it has changed here.
      const withoutAge = (answer: Answer) =>
        JSON.parse(
          JSON.stringify(answer.rooms, (key, value: unknown) =>
            key === "age" || key === "summary" ? undefined : value
          )
        ) as object
      for (const content of [
        { msgtype: "m.text", body: "one" },
        { msgtype: "m.text", body: "two", "m.mentions": { user_ids: [bob.id] } },
        { msgtype: "m.text", body: "three", "m.relates_to": { rel_type: "m.thread", event_id: root } },
        { msgtype: "m.notice", body: "four" },
        { msgtype: "m.text", body: "five", "m.mentions": { room: true } }
      ]) {
        const waiting = yield* Effect.forkChild(
          syncUntil(bob, since, ({ rooms }) => rooms.join[room] !== undefined, { filter })
        )
        yield* send(content)
        const live = yield* Fiber.join(waiting)
        const stored = yield* sync(bob, { since, filter })
        assert.deepStrictEqual(withoutAge(live), withoutAge(stored))
        assert.deepStrictEqual(bodies(live.rooms.join[room]), [content.body])
        since = live.next_batch
      }
    })
  )

  it.effect("presence: online users first, then joins, leaves and changes", () =>
    Effect.gen(function* () {
      const alice = yield* register("about-alice")
      const bob = yield* register("about-bob")
      const room = yield* createRoom(alice)
      yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
      const first = yield* sync(bob, { set_presence: "offline" })
      yield* as(alice)("PUT", `/v3/presence/${inPath(alice.id)}/status`, { presence: "online", status_msg: "Tea?" })
      const told = yield* syncUntil(bob, first.next_batch, (answer) => presenceOf(answer, alice)?.status_msg === "Tea?")
      assert.deepInclude(presenceOf(told, alice), { presence: "online", currently_active: true })
      assert.deepInclude(presenceOf(yield* sync(bob), alice), { presence: "online", status_msg: "Tea?" })
      assert.isUndefined(presenceOf(yield* sync(bob, { filter: { presence: { not_types: ["*"] } } }), alice))
      const next = yield* sync(bob, { since: told.next_batch })
      assert.isUndefined(presenceOf(next, alice))
      yield* as(alice)("PUT", `/v3/presence/${inPath(alice.id)}/status`, { presence: "unavailable" })
      const away = yield* syncUntil(bob, next.next_batch, (answer) => presenceOf(answer, alice) !== undefined)
      assert.deepInclude(presenceOf(away, alice), { presence: "unavailable", currently_active: false })
    })
  )

  it.effect(
    "users who sync without waiting, or only send, are online, but for set_presence=unavailable or offline",
    () =>
      Effect.gen(function* () {
        const alice = yield* register("poll-alice")
        const bob = yield* register("poll-bob")
        const carol = yield* register("poll-carol")
        const dave = yield* register("poll-dave")
        const room = yield* createRoom(alice)
        for (const user of [bob, carol, dave]) yield* as(user)("POST", `/v3/join/${inPath(room)}`, {})
        yield* sync(dave)
        yield* sync(dave, { set_presence: "offline" })
        yield* say(dave, room, "I am not here")
        yield* sync(bob, { set_presence: "unavailable" })
        yield* say(carol, room, "I only send")
        const first = yield* sync(alice)
        const seen = new Map<string, unknown>()
        const isComplete = ({ presence }: Answer) => {
          for (const { content, sender } of presence.events) seen.set(sender, content.presence)
          const others = seen.get(bob.id) === "unavailable" && seen.get(carol.id) === "online"
          return others && (seen.get(dave.id) ?? "offline") === "offline"
        }
        if (!isComplete(first)) yield* syncUntil(alice, first.next_batch, isComplete)
        const statusOf = (user: TestUser) =>
          Effect.map(as(alice)("GET", `/v3/presence/${inPath(user.id)}/status`), ({ body }) => body)
        assert.isNumber((yield* statusOf(carol)).last_active_ago)
        const hidden = yield* statusOf(dave)
        assert.strictEqual(hidden.presence, "offline")
        assert.isNumber(hidden.last_active_ago)
      })
  )

  it.effect("a user who enters a room receives the presence of its members", () =>
    Effect.gen(function* () {
      const alice = yield* register("enter-alice")
      const bob = yield* register("enter-bob")
      const room = yield* createRoom(alice)
      yield* as(alice)("PUT", `/v3/presence/${inPath(alice.id)}/status`, { presence: "online" })
      const { next_batch: since } = yield* sync(bob)
      yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
      const joined = yield* syncUntil(bob, since, (answer) => answer.rooms.join[room] !== undefined)
      assert.strictEqual(presenceOf(joined, alice)?.presence, "online")
    })
  )

  it.effect("filters choose rooms, types and senders", () =>
    Effect.gen(function* () {
      const alice = yield* register("choose-alice")
      const [tea, coffee] = [yield* createRoom(alice), yield* createRoom(alice)]
      yield* say(alice, tea, "tea")
      yield* say(alice, coffee, "coffee")
      const only = yield* sync(alice, { filter: { room: { rooms: [tea] } } })
      assert.deepStrictEqual(Object.keys(only.rooms.join), [tea])
      const messages = yield* sync(alice, {
        filter: { room: { timeline: { types: ["m.room.mess*"] }, state: { types: [] } } }
      })
      assert.deepStrictEqual(types(messages.rooms.join[tea]?.timeline), ["m.room.message"])
      assert.deepStrictEqual(messages.rooms.join[tea]?.state?.events, [])
    })
  )

  it.effect("filters choose events by their relations, the fields of events, and their form", () =>
    Effect.gen(function* () {
      const alice = yield* register("related-alice")
      const bob = yield* register("related-bob")
      const { body: made } = yield* as(alice)("POST", "/v3/createRoom", { preset: "public_chat" })
      const room = made.room_id
      yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
      const first = yield* say(alice, room, "liked")
      yield* say(alice, room, "not liked")
      yield* as(bob)("PUT", `/v3/rooms/${inPath(room)}/send/m.reaction/${transactions++}`, {
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

  it.effect("ignored users' messages and invitations are left out, live or later; their state events are not", () =>
    Effect.gen(function* () {
      const alice = yield* register("ignoring-alice")
      const bob = yield* register("ignored-bob")
      const { body: made } = yield* as(alice)("POST", "/v3/createRoom", { preset: "public_chat" })
      const room = made.room_id
      yield* as(bob)("POST", `/v3/join/${inPath(room)}`, {})
      yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/state/m.room.power_levels`, {
        users: { [bob.id]: 50 }
      })
      const path = `/v3/user/${inPath(alice.id)}/account_data/m.ignored_user_list`
      yield* as(alice)("PUT", path, { ignored_users: { [bob.id]: {} } })
      const before = yield* sync(alice)
      yield* say(bob, room, "unheard")
      yield* as(bob)("PUT", `/v3/rooms/${inPath(room)}/state/m.room.topic`, { topic: "by bob" })
      yield* as(bob)("POST", "/v3/createRoom", { invite: [alice.id] })
      yield* say(alice, room, "heard")
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

  it.effect("users who want no invitations get none: new ones are refused, old ones are not shown", () =>
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

  it.effect("invitations are blocked, ignored and allowed by rules about users before rules about servers", () =>
    Effect.gen(function* () {
      const alice = yield* register("rules-alice")
      const inviters = [yield* register("rules-bob"), yield* register("rules-eve"), yield* register("rules-friend")]
      const path = `/v3/user/${inPath(alice.id)}/account_data/org.matrix.msc4155.invite_permission_config`
      yield* as(alice)("PUT", path, {
        allowed_users: ["@*friend:*"],
        ignored_users: [inviters[0]!.id, null],
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

  it.effect("wrong tokens and filters are refused by name; a token from the future counts as none", () =>
    Effect.gen(function* () {
      const alice = yield* register("wrong-alice")
      const room = yield* createRoom(alice)
      for (const wrong of [
        "since=nonsense",
        "filter=99999",
        `filter=${inPath("{")}`,
        "timeout=soon",
        "full_state=yes"
      ]) {
        const { body, status } = yield* as(alice)("GET", `/v3/sync?${wrong}`)
        assert.deepStrictEqual([status, body.errcode], [400, "M_INVALID_PARAM"], wrong)
      }
      const future = yield* sync(alice, { since: "s999999999_0" })
      assert.property(future.rooms.join, room)
    })
  )
})
