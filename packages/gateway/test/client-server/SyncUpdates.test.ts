import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import {
  as,
  createRoom,
  gateway,
  inPath,
  joinRoom,
  register,
  roomWith,
  sendEvent,
  sendText,
  type TestUser
} from "../TestGateway.ts"
import { type Answer, bodies, presenceOf, sync, syncUntil } from "./SyncClient.ts"

layer(gateway, { excludeTestServices: true })("sync: typing, account data, receipts and presence", (it) => {
  it.effect("typing is sent when it changes, and in the first answer", () =>
    Effect.gen(function* () {
      const [alice, bob] = yield* Effect.all([register("typing-alice"), register("typing-bob")])
      const room = yield* createRoom(alice, { visibility: "public" })
      yield* joinRoom(bob, room)
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
      const alice = yield* register("changes-alice")
      const bob = yield* register("changes-bob")
      const room = yield* createRoom(alice)
      yield* joinRoom(bob, room)
      const message = yield* sendText(alice, room, "read me")
      const start = yield* sync(alice)
      yield* as(alice)("PUT", `/v3/user/${inPath(alice.id)}/rooms/${inPath(room)}/tags/m.favourite`, {})
      yield* as(alice)("PUT", `/v3/user/${inPath(alice.id)}/account_data/org.example`, { a: 1 })
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/receipt/m.read/${inPath(message)}`, {})
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/receipt/m.read.private/${inPath(message)}`, {})
      const update = yield* sync(alice, { since: start.next_batch })
      assert.deepStrictEqual(update.account_data.events, [{ type: "org.example", content: { a: 1 } }])
      const joined = update.rooms.join[room]
      assert.deepStrictEqual(joined?.account_data?.events, [
        { type: "m.tag", content: { tags: { "m.favourite": {} } } }
      ])
      const receipts = joined?.ephemeral?.events[0]?.content as { readonly [event: string]: object }
      assert.deepStrictEqual(Object.keys(receipts[message] ?? {}), ["m.read"])
      assert.deepStrictEqual((yield* sync(alice, { since: update.next_batch })).rooms.join, {})
      const own = yield* sync(bob, { since: start.next_batch })
      const seen = own.rooms.join[room]?.ephemeral?.events[0]?.content as { readonly [event: string]: object }
      assert.sameMembers(Object.keys(seen[message] ?? {}), ["m.read", "m.read.private"])
    })
  )

  it.effect("a waiting request is answered from memory as a later one is from the database", () =>
    Effect.gen(function* () {
      const alice = yield* register("live-alice")
      const bob = yield* register("live-bob")
      const room = yield* roomWith(alice, [bob])
      const filter = {
        presence: { types: [] },
        room: { state: { lazy_load_members: true }, timeline: { unread_thread_notifications: true } }
      }
      const root = yield* sendText(alice, room, "root")
      let { next_batch: since } = yield* sync(bob, { filter })
      // The age differs, and an answer from the database has the summary even if it has not changed.
      const comparable = (answer: Answer) =>
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
        yield* sendEvent(alice, room, content)
        const live = yield* Fiber.join(waiting)
        const stored = yield* sync(bob, { since, filter })
        assert.deepStrictEqual(comparable(live), comparable(stored))
        assert.deepStrictEqual(bodies(live.rooms.join[room]), [content.body])
        since = live.next_batch
      }
    })
  )

  it.effect("presence is sent in the first answer, and when it changes", () =>
    Effect.gen(function* () {
      const alice = yield* register("about-alice")
      const bob = yield* register("about-bob")
      const room = yield* createRoom(alice)
      yield* joinRoom(bob, room)
      const first = yield* sync(bob, { set_presence: "offline" })
      yield* as(alice)("PUT", `/v3/presence/${inPath(alice.id)}/status`, { presence: "online", status_msg: "Tea?" })
      const online = yield* syncUntil(
        bob,
        first.next_batch,
        (answer) => presenceOf(answer, alice)?.status_msg === "Tea?"
      )
      assert.deepInclude(presenceOf(online, alice), { presence: "online", currently_active: true })
      assert.deepInclude(presenceOf(yield* sync(bob), alice), { presence: "online", status_msg: "Tea?" })
      assert.isUndefined(presenceOf(yield* sync(bob, { filter: { presence: { not_types: ["*"] } } }), alice))
      const next = yield* sync(bob, { since: online.next_batch })
      assert.isUndefined(presenceOf(next, alice))
      yield* as(alice)("PUT", `/v3/presence/${inPath(alice.id)}/status`, { presence: "unavailable" })
      const away = yield* syncUntil(bob, next.next_batch, (answer) => presenceOf(answer, alice) !== undefined)
      assert.deepInclude(presenceOf(away, alice), { presence: "unavailable", currently_active: false })
    })
  )

  it.effect("the first answer has the presence of the user, as the request sets it", () =>
    Effect.gen(function* () {
      const alice = yield* register("own-presence-alice")
      assert.deepInclude(presenceOf(yield* sync(alice), alice), { presence: "online", currently_active: true })
      assert.deepInclude(presenceOf(yield* sync(alice, { set_presence: "offline" }), alice), { presence: "offline" })
      assert.deepInclude(presenceOf(yield* sync(alice, { set_presence: "unavailable" }), alice), {
        presence: "unavailable"
      })
    })
  )

  it.effect("users who sync or send are online, unless set_presence says unavailable or offline", () =>
    Effect.gen(function* () {
      const alice = yield* register("poll-alice")
      const bob = yield* register("poll-bob")
      const carol = yield* register("poll-carol")
      const dave = yield* register("poll-dave")
      const room = yield* createRoom(alice)
      for (const user of [bob, carol, dave]) yield* joinRoom(user, room)
      yield* sync(dave)
      yield* sync(dave, { set_presence: "offline" })
      yield* sendText(dave, room, "I am not here")
      yield* sync(bob, { set_presence: "unavailable" })
      yield* sendText(carol, room, "I only send")
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

  it.effect("a user who joins a room receives the presence of its members", () =>
    Effect.gen(function* () {
      const alice = yield* register("enter-alice")
      const bob = yield* register("enter-bob")
      const room = yield* createRoom(alice)
      yield* as(alice)("PUT", `/v3/presence/${inPath(alice.id)}/status`, { presence: "online" })
      const { next_batch: since } = yield* sync(bob)
      yield* joinRoom(bob, room)
      const joined = yield* syncUntil(bob, since, (answer) => answer.rooms.join[room] !== undefined)
      assert.strictEqual(presenceOf(joined, alice)?.presence, "online")
    })
  )
})
