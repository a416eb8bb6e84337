import { assert, layer } from "@effect/vitest"
import { PushPruningStore } from "@greenroom/store/PushPruningStore"
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import {
  as,
  gateway,
  inPath,
  joinRoom,
  redactEvent,
  register,
  roomWith,
  sendEvent,
  sendText,
  type TestUser
} from "../TestGateway.ts"

const relating = (rel_type: string, event_id: string) => ({ "m.relates_to": { rel_type, event_id } })
const inThread = (root: string) => relating("m.thread", root)
const mentioning = (...user_ids: ReadonlyArray<string>) => ({ "m.mentions": { user_ids } })

interface Counts {
  readonly notification_count: number
  readonly highlight_count: number
}
interface Unread {
  readonly unread_notifications: Counts
  readonly unread_thread_notifications?: { readonly [threadId: string]: Counts }
}

/** The unread counts of a room, with those of its threads if `byThread`. */
const unread = Effect.fnUntraced(function* (user: TestUser, room: string, byThread = false, since = "") {
  const filter = JSON.stringify({ room: { timeline: { unread_thread_notifications: byThread } } })
  const { body } = yield* as(user)("GET", `/v3/sync?filter=${inPath(filter)}&since=${since}`)
  return (body.rooms as { readonly join: { readonly [roomId: string]: Unread } }).join[room]!
})
/** The numbers of notifications and of highlights in a room. */
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

layer(gateway, { excludeTestServices: true })("unread counts and notifications", (it) => {
  it.effect("the events of others since the read receipt are counted, without redacted ones", () =>
    Effect.gen(function* () {
      const alice = yield* register("count-alice")
      const bob = yield* register("count-bob")
      const room = yield* roomWith(alice, [bob])
      const first = yield* sendText(alice, room, "1")
      const second = yield* sendText(alice, room, "2")
      yield* sendText(bob, room, "mine", mentioning(bob.id))
      yield* sendEvent(alice, room, { msgtype: "m.notice", body: "a notice" })
      const mention = yield* sendText(alice, room, "3", mentioning(bob.id))
      assert.deepStrictEqual(yield* counts(bob, room), [3, 1])
      yield* read(bob, room, first)
      assert.deepStrictEqual(yield* counts(bob, room), [2, 1])
      yield* redactEvent(alice, room, second)
      assert.deepStrictEqual(yield* counts(bob, room), [1, 1])
      yield* redactEvent(alice, room, mention)
      assert.deepStrictEqual(yield* counts(bob, room), [0, 0])
      assert.deepStrictEqual(yield* counts(alice, room), [1, 0])
      yield* read(bob, room, yield* sendText(alice, room, "4"))
      assert.deepStrictEqual(yield* counts(bob, room), [0, 0])
      // The later of the public and the private receipt counts.
      const readPrivately = (event: string) =>
        as(bob)("POST", `/v3/rooms/${inPath(room)}/receipt/m.read.private/${inPath(event)}`, {})
      const [fifth, sixth] = [yield* sendText(alice, room, "5"), yield* sendText(alice, room, "6")]
      yield* readPrivately(sixth)
      yield* read(bob, room, fifth)
      assert.deepStrictEqual(yield* counts(bob, room), [0, 0])
      yield* read(bob, room, yield* sendText(alice, room, "7"))
      assert.deepStrictEqual(yield* counts(bob, room), [0, 0])
    })
  )

  it.effect("a mention of the room needs the power level, and a mention added by an edit notifies", () =>
    Effect.gen(function* () {
      const alice = yield* register("mention-alice")
      const bob = yield* register("mention-bob")
      const room = yield* roomWith(alice, [bob])
      yield* sendText(bob, room, "all of you", { "m.mentions": { room: true } })
      assert.deepStrictEqual(yield* counts(alice, room), [1, 0])
      const text = yield* sendText(alice, room, "all of you", { "m.mentions": { room: true } })
      assert.deepStrictEqual(yield* counts(bob, room), [1, 1])
      const edit = { "m.relates_to": { rel_type: "m.replace", event_id: text } }
      yield* sendText(alice, room, "* all", { ...edit, "m.new_content": { msgtype: "m.text", body: "all" } })
      assert.deepStrictEqual(yield* counts(bob, room), [1, 1])
      yield* sendText(alice, room, "* Bob", { ...edit, ...mentioning(bob.id) })
      assert.deepStrictEqual(yield* counts(bob, room), [2, 2])
      yield* sendText(alice, room, "Bob and all", { "m.mentions": { room: true, user_ids: [bob.id] } })
      assert.deepStrictEqual(yield* counts(bob, room), [3, 3], "one event highlights once")
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/upgrade`, { new_version: "10" })
      assert.deepStrictEqual(yield* counts(bob, room), [4, 4])
    })
  )

  it.effect("threads are counted separately, with receipts of their own", () =>
    Effect.gen(function* () {
      const alice = yield* register("thread-alice")
      const bob = yield* register("thread-bob")
      const room = yield* roomWith(alice, [bob])
      const root = yield* sendText(alice, room, "root")
      const other = yield* sendText(alice, room, "other root")
      yield* sendText(alice, room, "in the thread", inThread(root))
      const last = yield* sendText(alice, room, "for Bob", { ...inThread(root), ...mentioning(bob.id) })
      yield* sendText(alice, room, "in the other", inThread(other))
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

  it.effect("an event counts in the thread of the event that it relates to, over three relations", () =>
    Effect.gen(function* () {
      const alice = yield* register("related-alice")
      const bob = yield* register("related-bob")
      const carol = yield* register("related-carol")
      const room = yield* roomWith(alice, [bob, carol])
      const conditions = [{ kind: "event_match", key: "type", pattern: "m.reaction" }]
      yield* putRule(carol, "override", "reactions", { conditions, actions: ["notify"] })
      const root = yield* sendText(alice, room, "root")
      const inIt = yield* sendText(alice, room, "in the thread", inThread(root))
      const { body: synced } = yield* as(bob)("GET", "/v3/sync")
      yield* unread(bob, room, true, String(synced.next_batch))
      yield* sendText(alice, room, "about it", relating("m.reference", inIt))
      const edit = yield* sendText(alice, room, "* Bob", {
        ...relating("m.replace", inIt),
        "m.new_content": { msgtype: "m.text", body: "Bob" },
        ...mentioning(bob.id)
      })
      const third = yield* sendText(alice, room, "about the edit", relating("m.reference", edit))
      const fourth = yield* sendText(alice, room, "about that", relating("m.reference", third))
      yield* sendText(alice, room, "about the root", relating("m.reference", root))
      const reaction = { "m.relates_to": { rel_type: "m.annotation", event_id: inIt, key: "🍵" } }
      yield* sendEvent(alice, room, reaction, "m.reaction")
      const apart = (notification_count: number, highlight_count = 0) => ({ notification_count, highlight_count })
      for (const since of ["", String(synced.next_batch)]) {
        const ofBob = yield* unread(bob, room, true, since)
        assert.deepStrictEqual(ofBob.unread_notifications, apart(3), since)
        assert.deepStrictEqual(ofBob.unread_thread_notifications, { [root]: apart(4, 1) }, since)
      }
      assert.deepStrictEqual((yield* unread(carol, room, true)).unread_thread_notifications, { [root]: apart(4) })
      assert.strictEqual((yield* read(bob, room, third, "main")).body.errcode, "M_INVALID_PARAM")
      assert.strictEqual((yield* read(bob, room, fourth, root)).body.errcode, "M_INVALID_PARAM")
      yield* read(bob, room, third, root)
      const rest = yield* unread(bob, room, true)
      assert.deepStrictEqual([rest.unread_notifications, rest.unread_thread_notifications], [apart(3), {}])
      const { body } = yield* as(bob)("GET", "/v3/notifications")
      const listed = body.notifications as ReadonlyArray<{ event: { content: { body?: string } }; read: boolean }>
      assert.deepStrictEqual(
        listed.map(({ event, read }) => [event.content.body, read]),
        [
          ["about the root", false],
          ["about that", false],
          ["about the edit", true],
          ["* Bob", true],
          ["about it", true],
          ["in the thread", true],
          ["root", false]
        ]
      )
    })
  )

  it.effect("the events of ignored users do not notify, by default rules or custom rules", () =>
    Effect.gen(function* () {
      const alice = yield* register("ignored-alice")
      const bob = yield* register("ignoring-bob")
      const room = yield* roomWith(alice, [bob])
      const ignore = (ignored_users: object) =>
        as(bob)("PUT", `/v3/user/${inPath(bob.id)}/account_data/m.ignored_user_list`, { ignored_users })
      const listed = Effect.map(
        as(bob)("GET", "/v3/notifications"),
        ({ body }) => body.notifications as ReadonlyArray<object>
      )
      yield* ignore({ [alice.id]: {} })
      yield* sendText(alice, room, "Hello")
      yield* sendText(alice, room, "Hello Bob", mentioning(bob.id))
      assert.deepStrictEqual(yield* counts(bob, room), [0, 0])
      assert.lengthOf(yield* listed, 0)
      yield* ignore({})
      assert.deepStrictEqual(yield* counts(bob, room), [2, 1])
      assert.lengthOf(yield* listed, 2)
      yield* putRule(bob, "content", "tea", { pattern: "tea", actions: ["notify", { set_tweak: "highlight" }] })
      yield* sendText(alice, room, "tea?")
      assert.deepStrictEqual(yield* counts(bob, room), [3, 2])
      yield* ignore({ [alice.id]: {} })
      assert.deepStrictEqual(yield* counts(bob, room), [0, 0])
      assert.lengthOf(yield* listed, 0)
    })
  )

  it.effect("nobody is notified of events from before they joined, or in rooms that they are not in", () =>
    Effect.gen(function* () {
      const alice = yield* register("outside-alice")
      const bob = yield* register("outside-bob")
      const room = yield* roomWith(alice, [], {
        preset: "private_chat",
        initial_state: [{ type: "m.room.history_visibility", content: { history_visibility: "joined" } }]
      })
      const listed = Effect.map(as(bob)("GET", "/v3/notifications"), ({ body }) =>
        (body.notifications as ReadonlyArray<{ event: { content: { body?: string } } }>).flatMap(
          ({ event }) => event.content.body ?? []
        )
      )
      const note = (body: string) => sendEvent(alice, room, { body, ...mentioning(bob.id) }, "org.example.note")
      yield* sendText(alice, room, "before")
      yield* note("before, for Bob")
      assert.deepStrictEqual(yield* listed, [])
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/invite`, { user_id: bob.id })
      const old = yield* as(bob)("GET", "/v3/notifications?limit=1")
      yield* joinRoom(bob, room)
      assert.deepStrictEqual(yield* listed, [])
      yield* sendText(alice, room, "inside")
      yield* note("inside, for Bob")
      assert.deepStrictEqual(yield* listed, ["inside, for Bob", "inside"])
      const older = yield* as(bob)("GET", `/v3/notifications?from=${old.body.next_token}`)
      assert.lengthOf(older.body.notifications as ReadonlyArray<object>, 0)
      yield* as(bob)("PUT", `/v3/profile/${inPath(bob.id)}/displayname`, { displayname: "Robert" })
      assert.deepStrictEqual(yield* listed, ["inside, for Bob", "inside"])
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      yield* note("after, for Bob")
      assert.deepStrictEqual(yield* listed, [])
    })
  )

  it.effect("push actions are deleted when read or when the user has left, and after a time in any case", () =>
    Effect.gen(function* () {
      const alice = yield* register("old-alice")
      const bob = yield* register("old-bob")
      const [room, left] = [yield* roomWith(alice, [bob]), yield* roomWith(alice, [bob])]
      yield* putRule(bob, "content", "tea", { pattern: "tea", actions: ["notify"] })
      yield* sendText(alice, left, "tea there")
      yield* read(bob, room, yield* sendText(alice, room, "tea, read"))
      yield* sendText(alice, room, "tea, unread")
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
      yield* read(bob, room, yield* sendText(alice, room, "tea, read later"))
      yield* sendText(alice, room, "tea, new")
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

  it.effect("members with custom rules share a row if they are notified alike, and are counted correctly", () =>
    Effect.gen(function* () {
      const alice = yield* register("crowd-alice")
      const crowd = yield* Effect.forEach(Array.from({ length: 10 }), (_, index) => register(`crowd-${index}`))
      const [late, plain] = [yield* register("crowd-late"), yield* register("crowd-plain")]
      const [bob, muted] = [crowd[0]!, crowd[1]!]
      const room = yield* roomWith(alice, [...crowd, plain])
      const loud = { pattern: "tea", actions: ["notify", { set_tweak: "highlight" }] }
      for (const user of [alice, late, ...crowd]) yield* putRule(user, "content", "tea", loud)
      yield* putRule(muted, "override", "quiet", { conditions: [], actions: [] })
      const tea = yield* sendText(alice, room, "tea for all")
      const rows = SqlClient.SqlClient.use(
        (sql) => sql<{ alone: number; together: number }>`
          SELECT (SELECT count(*)::integer FROM push_actions JOIN rooms USING (room_nid) WHERE room_id = ${room}) AS alone,
            (SELECT count(*)::integer FROM room_push_actions JOIN rooms USING (room_nid) WHERE room_id = ${room}) AS together`
      )
      assert.deepStrictEqual([...(yield* rows)], [{ alone: 0, together: 1 }])
      yield* joinRoom(late, room)
      yield* sendText(alice, room, "coffee")
      assert.deepStrictEqual([...(yield* rows)], [{ alone: 0, together: 2 }])
      assert.deepStrictEqual(yield* counts(bob, room), [2, 1])
      assert.deepStrictEqual(yield* counts(late, room), [1, 0])
      assert.deepStrictEqual(yield* counts(plain, room), [2, 0])
      yield* putRule(plain, "content", "milk", { pattern: "milk", actions: ["notify"] })
      assert.deepStrictEqual(yield* counts(plain, room), [2, 0], "events from before the first rule count once")
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
      yield* redactEvent(alice, room, tea)
      assert.deepStrictEqual(yield* counts(crowd[2]!, room), [1, 0])
    })
  )

  it.effect("custom rules decide about events that are sent after them", () =>
    Effect.gen(function* () {
      const alice = yield* register("rule-alice")
      const bob = yield* register("rule-bob")
      const room = yield* roomWith(alice, [bob])
      yield* sendText(alice, room, "before")
      yield* putRule(bob, "content", "tea", { pattern: "tea", actions: ["notify", { set_tweak: "highlight" }] })
      yield* sendText(alice, room, "More tea, Bob?")
      yield* sendText(alice, room, "Team work")
      assert.deepStrictEqual(yield* counts(bob, room), [3, 1])
      yield* putRule(bob, "room", room, { actions: [] })
      yield* sendText(alice, room, "muted")
      yield* sendText(alice, room, "not so tea")
      assert.deepStrictEqual(yield* counts(bob, room), [4, 2])
      const isBig = { kind: "room_member_count", is: ">1" }
      const hello = { kind: "event_match", key: "content.body", pattern: "hello*" }
      yield* putRule(bob, "override", "hello", { conditions: [isBig, hello], actions: ["notify"] })
      const greeting = yield* sendText(alice, room, "hello Bob")
      assert.deepStrictEqual(yield* counts(bob, room), [5, 2])
      yield* redactEvent(alice, room, greeting)
      assert.deepStrictEqual(yield* counts(bob, room), [4, 2])
      yield* as(bob)("PUT", "/v3/pushrules/global/override/.m.rule.master/enabled", { enabled: true })
      yield* sendText(alice, room, "tea?", mentioning(bob.id))
      assert.deepStrictEqual(yield* counts(bob, room), [4, 2])
      yield* read(bob, room, yield* sendText(alice, room, "bye"))
      assert.deepStrictEqual(yield* counts(bob, room), [0, 0])
    })
  )
})
