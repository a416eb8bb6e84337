import { assert, layer } from "@effect/vitest"
import { PushPruningStore } from "@greenroom/store/PushPruningStore"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { as, gateway, inPath, register, type TestUser } from "../TestGateway.ts"

let transactions = 0
const send = (user: TestUser, room: string, content: object, type = "m.room.message") =>
  Effect.map(
    as(user)("PUT", `/v3/rooms/${inPath(room)}/send/${type}/push${transactions++}`, content),
    ({ body }) => body.event_id
  )
const say = (user: TestUser, room: string, body: string, more: object = {}) =>
  send(user, room, { msgtype: "m.text", body, ...more })

const inThread = (root: string) => ({ "m.relates_to": { rel_type: "m.thread", event_id: root } })
const mentioning = (...user_ids: ReadonlyArray<string>) => ({ "m.mentions": { user_ids } })

interface Counts {
  readonly notification_count: number
  readonly highlight_count: number
}
interface Unread {
  readonly unread_notifications: Counts
  readonly unread_thread_notifications?: { readonly [threadId: string]: Counts }
}

/** The unread counts of a room: notifications and highlights. */
const unread = Effect.fnUntraced(function* (user: TestUser, room: string, byThread = false) {
  const filter = JSON.stringify({ room: { timeline: { unread_thread_notifications: byThread } } })
  const { body } = yield* as(user)("GET", `/v3/sync?filter=${inPath(filter)}`)
  return (body.rooms as { readonly join: { readonly [roomId: string]: Unread } }).join[room]!
})
const counts = Effect.fnUntraced(function* (user: TestUser, room: string) {
  const { unread_notifications } = yield* unread(user, room)
  return [unread_notifications.notification_count, unread_notifications.highlight_count]
})

const read = (user: TestUser, room: string, event: string, thread?: string) =>
  as(user)(
    "POST",
    `/v3/rooms/${inPath(room)}/receipt/m.read/${inPath(event)}`,
    thread === undefined ? {} : { thread_id: thread }
  )

const putRule = (user: TestUser, kind: string, id: string, rule: object) =>
  as(user)("PUT", `/v3/pushrules/global/${kind}/${inPath(id)}`, rule)

/** A room of the first user, in which the others are too. */
const roomOf = Effect.fnUntraced(function* (owner: TestUser, ...others: ReadonlyArray<TestUser>) {
  const { body } = yield* as(owner)("POST", "/v3/createRoom", { preset: "public_chat" })
  for (const user of others) yield* as(user)("POST", `/v3/join/${inPath(body.room_id)}`, {})
  return body.room_id
})

layer(gateway, { excludeTestServices: true })("push", (it) => {
  it.effect("counts events of others since the receipt; redacted events do not count", () =>
    Effect.gen(function* () {
      const alice = yield* register("count-alice")
      const bob = yield* register("count-bob")
      const room = yield* roomOf(alice, bob)
      const first = yield* say(alice, room, "1")
      const second = yield* say(alice, room, "2")
      yield* say(bob, room, "mine")
      yield* send(alice, room, { msgtype: "m.notice", body: "a notice" })
      yield* say(alice, room, "3", mentioning(bob.id))
      assert.deepStrictEqual(yield* counts(bob, room), [3, 1])
      yield* read(bob, room, first)
      assert.deepStrictEqual(yield* counts(bob, room), [2, 1])
      yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/redact/${inPath(second)}/r${transactions++}`, {})
      assert.deepStrictEqual(yield* counts(bob, room), [1, 1])
      assert.deepStrictEqual(yield* counts(alice, room), [1, 0])
      yield* read(bob, room, yield* say(alice, room, "4"))
      assert.deepStrictEqual(yield* counts(bob, room), [0, 0])
    })
  )

  it.effect("mentioning the room needs the power to; a mention in an edit or a reaction notifies too", () =>
    Effect.gen(function* () {
      const alice = yield* register("mention-alice")
      const bob = yield* register("mention-bob")
      const room = yield* roomOf(alice, bob)
      yield* say(bob, room, "all of you", { "m.mentions": { room: true } })
      assert.deepStrictEqual(yield* counts(alice, room), [1, 0])
      const text = yield* say(alice, room, "all of you", { "m.mentions": { room: true } })
      assert.deepStrictEqual(yield* counts(bob, room), [1, 1])
      const edit = { "m.relates_to": { rel_type: "m.replace", event_id: text } }
      yield* say(alice, room, "* all", { ...edit, "m.new_content": { msgtype: "m.text", body: "all" } })
      assert.deepStrictEqual(yield* counts(bob, room), [1, 1])
      yield* say(alice, room, "* Bob", { ...edit, ...mentioning(bob.id) })
      assert.deepStrictEqual(yield* counts(bob, room), [2, 2])
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/upgrade`, { new_version: "10" })
      assert.deepStrictEqual(yield* counts(bob, room), [3, 3])
    })
  )

  it.effect("threads are counted apart, and each has receipts of its own", () =>
    Effect.gen(function* () {
      const alice = yield* register("thread-alice")
      const bob = yield* register("thread-bob")
      const room = yield* roomOf(alice, bob)
      const root = yield* say(alice, room, "root")
      const other = yield* say(alice, room, "other root")
      yield* say(alice, room, "in the thread", inThread(root))
      const last = yield* say(alice, room, "for Bob", { ...inThread(root), ...mentioning(bob.id) })
      yield* say(alice, room, "in the other", inThread(other))
      assert.deepStrictEqual(yield* counts(bob, room), [5, 1])
      const apart = (notification_count: number, highlight_count = 0) => ({ notification_count, highlight_count })
      const before = yield* unread(bob, room, true)
      assert.deepStrictEqual(before.unread_notifications, apart(2))
      assert.deepStrictEqual(before.unread_thread_notifications, { [root]: apart(2, 1), [other]: apart(1) })
      yield* read(bob, room, last, root)
      const after = yield* unread(bob, room, true)
      assert.deepStrictEqual(after.unread_notifications, apart(2))
      assert.deepStrictEqual(after.unread_thread_notifications, { [other]: apart(1) })
      yield* read(bob, room, other, "main")
      assert.deepStrictEqual((yield* unread(bob, room, true)).unread_notifications, apart(0))
      assert.deepStrictEqual(yield* counts(bob, room), [1, 0])
    })
  )

  it.effect("events of ignored users do not notify, by the default rules and by own ones", () =>
    Effect.gen(function* () {
      const alice = yield* register("ignored-alice")
      const bob = yield* register("ignoring-bob")
      const room = yield* roomOf(alice, bob)
      const ignore = (ignored_users: object) =>
        as(bob)("PUT", `/v3/user/${inPath(bob.id)}/account_data/m.ignored_user_list`, { ignored_users })
      const listed = Effect.map(
        as(bob)("GET", "/v3/notifications"),
        ({ body }) => body.notifications as ReadonlyArray<object>
      )
      yield* ignore({ [alice.id]: {} })
      yield* say(alice, room, "Hello")
      yield* say(alice, room, "Hello Bob", mentioning(bob.id))
      assert.deepStrictEqual(yield* counts(bob, room), [0, 0])
      assert.lengthOf(yield* listed, 0)
      yield* ignore({})
      assert.deepStrictEqual(yield* counts(bob, room), [2, 1])
      assert.lengthOf(yield* listed, 2)
      yield* putRule(bob, "content", "tea", { pattern: "tea", actions: ["notify", { set_tweak: "highlight" }] })
      yield* say(alice, room, "tea?")
      assert.deepStrictEqual(yield* counts(bob, room), [3, 2])
      yield* ignore({ [alice.id]: {} })
      assert.deepStrictEqual(yield* counts(bob, room), [0, 0])
      assert.lengthOf(yield* listed, 0)
    })
  )

  it.effect("old rows go when they were read or the user has left, and very old ones in any case", () =>
    Effect.gen(function* () {
      const alice = yield* register("old-alice")
      const bob = yield* register("old-bob")
      const [room, left] = [yield* roomOf(alice, bob), yield* roomOf(alice, bob)]
      yield* putRule(bob, "content", "tea", { pattern: "tea", actions: ["notify"] })
      yield* say(alice, left, "tea there")
      yield* read(bob, room, yield* say(alice, room, "tea, read"))
      yield* say(alice, room, "tea, unread")
      yield* as(bob)("POST", `/v3/rooms/${inPath(left)}/leave`, {})
      const rows = Effect.map(
        SqlClient.SqlClient.use((sql) => sql`SELECT FROM push_actions WHERE user_id = ${bob.id}`),
        (found) => found.length
      )
      assert.strictEqual(yield* rows, 3)
      const { mark, prune } = yield* PushPruningStore
      const now = 1_000_000_000
      yield* prune({ readBefore: now, allBefore: 0, batch: 1 })
      assert.strictEqual(yield* rows, 3)
      yield* mark(now)
      yield* read(bob, room, yield* say(alice, room, "tea, read later"))
      yield* say(alice, room, "tea, new")
      yield* prune({ readBefore: now - 1, allBefore: 0, batch: 1 })
      assert.strictEqual(yield* rows, 5)
      yield* prune({ readBefore: now, allBefore: 0, batch: 1 })
      assert.strictEqual(yield* rows, 2)
      assert.deepStrictEqual(yield* counts(bob, room), [1, 0])
      yield* mark(now + 1)
      yield* prune({ readBefore: now + 1, allBefore: now + 1, batch: 10 })
      assert.strictEqual(yield* rows, 0)
    }).pipe(Effect.provide(PushPruningStore.layer))
  )

  it.effect(
    "members with own rules who are notified alike share a row; others, and later members, are counted apart",
    () =>
      Effect.gen(function* () {
        const alice = yield* register("crowd-alice")
        const crowd = yield* Effect.forEach(Array.from({ length: 10 }), (_, index) => register(`crowd-${index}`))
        const late = yield* register("crowd-late")
        const [bob, muted] = [crowd[0]!, crowd[1]!]
        const room = yield* roomOf(alice, ...crowd)
        const loud = { pattern: "tea", actions: ["notify", { set_tweak: "highlight" }] }
        for (const user of [alice, late, ...crowd]) yield* putRule(user, "content", "tea", loud)
        yield* putRule(muted, "override", "quiet", { conditions: [], actions: [] })
        const tea = yield* say(alice, room, "tea for all")
        const rows = SqlClient.SqlClient.use(
          (sql) => sql<{ alone: number; together: number }>`
          SELECT (SELECT count(*)::integer FROM push_actions JOIN rooms USING (room_nid) WHERE room_id = ${room}) AS alone,
            (SELECT count(*)::integer FROM room_push_actions JOIN rooms USING (room_nid) WHERE room_id = ${room}) AS together`
        )
        assert.deepStrictEqual([...(yield* rows)], [{ alone: 0, together: 1 }])
        yield* as(late)("POST", `/v3/join/${inPath(room)}`, {})
        yield* say(alice, room, "coffee")
        assert.deepStrictEqual([...(yield* rows)], [{ alone: 0, together: 2 }])
        assert.deepStrictEqual(yield* counts(bob, room), [2, 1])
        assert.deepStrictEqual(yield* counts(late, room), [1, 0])
        assert.deepStrictEqual(
          [yield* counts(muted, room), yield* counts(alice, room)],
          [
            [0, 0],
            [0, 0]
          ]
        )
        const listed = (user: TestUser) =>
          Effect.map(as(user)("GET", "/v3/notifications"), ({ body }) =>
            (body.notifications as ReadonlyArray<{ event: { content: { body?: string } }; read: boolean }>).map(
              ({ event, read }) => [event.content.body, read]
            )
          )
        yield* read(bob, room, tea)
        assert.deepStrictEqual(yield* counts(bob, room), [1, 0])
        assert.deepStrictEqual(yield* listed(bob), [
          ["coffee", false],
          ["tea for all", true]
        ])
        assert.deepStrictEqual(yield* listed(late), [["coffee", false]])
        assert.deepStrictEqual([yield* listed(muted), yield* listed(alice)], [[], []])
        yield* as(bob)("PUT", `/v3/user/${inPath(bob.id)}/account_data/m.ignored_user_list`, {
          ignored_users: { [alice.id]: {} }
        })
        assert.deepStrictEqual(yield* counts(bob, room), [0, 0])
        yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/redact/${inPath(tea)}/r${transactions++}`, {})
        assert.deepStrictEqual(yield* counts(crowd[2]!, room), [1, 0])
      })
  )

  it.effect("own rules decide from when they are made: words, senders, muted rooms, the size of the room", () =>
    Effect.gen(function* () {
      const alice = yield* register("rule-alice")
      const bob = yield* register("rule-bob")
      const room = yield* roomOf(alice, bob)
      yield* say(alice, room, "before")
      yield* putRule(bob, "content", "tea", { pattern: "tea", actions: ["notify", { set_tweak: "highlight" }] })
      yield* say(alice, room, "More tea, Bob?")
      yield* say(alice, room, "Team work")
      assert.deepStrictEqual(yield* counts(bob, room), [3, 1])
      yield* putRule(bob, "room", room, { actions: [] })
      yield* say(alice, room, "muted")
      yield* say(alice, room, "not so tea")
      assert.deepStrictEqual(yield* counts(bob, room), [4, 2])
      const isBig = { kind: "room_member_count", is: ">1" }
      const hello = { kind: "event_match", key: "content.body", pattern: "hello*" }
      yield* putRule(bob, "override", "hello", { conditions: [isBig, hello], actions: ["notify"] })
      const greeting = yield* say(alice, room, "hello Bob")
      assert.deepStrictEqual(yield* counts(bob, room), [5, 2])
      yield* as(alice)("PUT", `/v3/rooms/${inPath(room)}/redact/${inPath(greeting)}/r${transactions++}`, {})
      assert.deepStrictEqual(yield* counts(bob, room), [4, 2])
      yield* as(bob)("PUT", "/v3/pushrules/global/override/.m.rule.master/enabled", { enabled: true })
      yield* say(alice, room, "tea?", mentioning(bob.id))
      assert.deepStrictEqual(yield* counts(bob, room), [4, 2])
      yield* read(bob, room, yield* say(alice, room, "bye"))
      assert.deepStrictEqual(yield* counts(bob, room), [0, 0])
    })
  )
})
