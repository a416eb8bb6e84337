import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import type { Gateway } from "../../src/Gateway.ts"
import { pushReceiver, pushReceiverThat } from "../support/PushReceiver.ts"
import {
  as,
  askToday,
  gateway,
  gatewayWith,
  inPath,
  logIn,
  register,
  roomWith,
  sendText,
  type TestUser
} from "../TestGateway.ts"

const pusher = (url: string, pushkey: string, more: object = {}, data: object = {}) => ({
  app_id: "test.app",
  pushkey,
  kind: "http",
  app_display_name: "Test",
  device_display_name: "Phone",
  lang: "en",
  data: { url, theme: "dark", ...data },
  ...more
})

const read = (user: TestUser, room: string, event: string) =>
  as(user)("POST", `/v3/rooms/${inPath(room)}/receipt/m.read/${inPath(event)}`, {})

layer(gatewayWith({}, { federation: { addressPolicy: "loopback" } }), { excludeTestServices: true })(
  "pushers",
  (it) => {
    it.effect("a push gateway receives each notification once, and the unread count after a receipt", () =>
      Effect.gen(function* () {
        const alice = yield* register("pusher-alice")
        const bob = yield* register("pusher-bob")
        const room = yield* roomWith(alice, [bob], { name: "Tea" })
        const receiver = yield* pushReceiver
        yield* sendText(alice, room, "before")
        const set = yield* as(bob)("POST", "/v3/pushers/set", pusher(receiver.url, "key-bob"))
        assert.deepStrictEqual([set.status, set.text], [200, "{}"])
        const { pushers } = (yield* as(bob)("GET", "/v3/pushers")).body as unknown as { pushers: ReadonlyArray<object> }
        assert.deepInclude(pushers[0], { app_id: "test.app", pushkey: "key-bob", kind: "http", lang: "en" })
        const event = yield* sendText(alice, room, "More tea?", { "m.mentions": { user_ids: [bob.id] } })
        const { devices, ...notification } = yield* receiver.next
        assert.deepInclude(notification, {
          event_id: event,
          id: event,
          room_id: room,
          type: "m.room.message",
          sender: alice.id,
          room_name: "Tea",
          prio: "high",
          counts: { unread: 2 }
        })
        assert.deepInclude(notification.content as object, { body: "More tea?" })
        const { pushkey_ts, ...device } = devices[0]!
        assert.isNumber(pushkey_ts)
        assert.deepStrictEqual<unknown>(device, {
          app_id: "test.app",
          pushkey: "key-bob",
          data: { theme: "dark" },
          tweaks: { sound: "default", highlight: true }
        })
        yield* sendText(bob, room, "my own")
        yield* read(bob, room, event)
        const badge = yield* receiver.next
        assert.deepStrictEqual([badge.event_id, badge.counts], [undefined, { unread: 0 }])
      })
    )

    it.effect("a receipt during the delivery of a notification is followed by an unread count of zero", () =>
      Effect.gen(function* () {
        const alice = yield* register("quick-alice")
        const bob = yield* register("quick-bob")
        const room = yield* roomWith(alice, [bob], { name: "Tea" })
        const run = Effect.runPromiseWith(yield* Effect.context<Gateway>())
        const receiver = yield* pushReceiverThat(({ event_id }) =>
          event_id === undefined ? Promise.resolve() : run(read(bob, room, event_id))
        )
        yield* as(bob)("POST", "/v3/pushers/set", pusher(receiver.url, "key-quick"))
        const event = yield* sendText(alice, room, "Now")
        assert.strictEqual((yield* receiver.next).event_id, event)
        const badge = yield* receiver.next
        assert.deepStrictEqual([badge.event_id, badge.counts], [undefined, { unread: 0 }])
      })
    )

    it.effect("failed notifications are sent again in order, and a pusher with a rejected key is removed", () =>
      Effect.gen(function* () {
        const alice = yield* register("retry-alice")
        const bob = yield* register("retry-bob")
        const room = yield* roomWith(alice, [bob], { name: "Tea" })
        const receiver = yield* pushReceiver
        yield* as(bob)("POST", "/v3/pushers/set", pusher(receiver.url, "key-retry", {}, { format: "event_id_only" }))
        receiver.answerNext(502)
        const first = yield* sendText(alice, room, "1")
        const refused = yield* receiver.next
        const second = yield* sendText(alice, room, "2")
        const [again, next] = [yield* receiver.next, yield* receiver.next]
        assert.deepStrictEqual(
          [refused, again, next].map(({ event_id }) => event_id),
          [first, first, second]
        )
        assert.isUndefined(again.content)
        receiver.answerNext(200, { rejected: ["key-retry"] })
        yield* sendText(alice, room, "3")
        yield* receiver.next
        const isGone = Effect.map(as(bob)("GET", "/v3/pushers"), ({ text }) => text === '{"pushers":[]}')
        yield* Effect.repeat(isGone, { until: (gone) => gone })
      })
    )

    it.effect("an unread count that a push gateway refused is sent again", () =>
      Effect.gen(function* () {
        const alice = yield* register("badge-alice")
        const bob = yield* register("badge-bob")
        const room = yield* roomWith(alice, [bob], { name: "Tea" })
        const receiver = yield* pushReceiver
        yield* as(bob)("POST", "/v3/pushers/set", pusher(receiver.url, "key-badge"))
        const event = yield* sendText(alice, room, "Now")
        assert.strictEqual((yield* receiver.next).event_id, event)
        receiver.answerNext(502)
        yield* read(bob, room, event)
        const [refused, again] = [yield* receiver.next, yield* receiver.next]
        assert.deepStrictEqual([refused.event_id, refused.counts], [undefined, { unread: 0 }])
        assert.deepStrictEqual([again.event_id, again.counts], [undefined, { unread: 0 }])
      })
    )

    it.effect("a push gateway that does not answer, or fails, holds up no other pusher of its user", () =>
      Effect.gen(function* () {
        const alice = yield* register("silent-alice")
        const bob = yield* register("silent-bob")
        const room = yield* roomWith(alice, [bob], { name: "Tea" })
        let isAnswered = false
        const silent = yield* pushReceiverThat(() => new Promise(() => {}))
        const failing = yield* pushReceiver
        failing.answerNext(502)
        const prompt = yield* pushReceiver
        yield* as(bob)("POST", "/v3/pushers/set", pusher(silent.url, "key-1", { append: true }))
        yield* as(bob)("POST", "/v3/pushers/set", pusher(failing.url, "key-2", { append: true }))
        yield* as(bob)("POST", "/v3/pushers/set", pusher(prompt.url, "key-3", { append: true }))
        const first = yield* sendText(alice, room, "1")
        assert.strictEqual((yield* silent.next).event_id, first)
        yield* Effect.forkChild(
          Effect.map(silent.next, () => {
            isAnswered = true
          })
        )
        const sent = [first]
        for (const text of ["2", "3", "4"]) {
          sent.push(yield* sendText(alice, room, text))
          assert.strictEqual((yield* prompt.next).event_id, sent.at(-2))
        }
        assert.strictEqual((yield* prompt.next).event_id, sent.at(-1))
        assert.isFalse(isAnswered)
        const seen = yield* Effect.replicateEffect(failing.next, 5)
        assert.deepStrictEqual(
          seen.map(({ event_id }) => event_id),
          [first, ...sent]
        )
      })
    )

    it.effect("invitations notify; a pusher is replaced by one with its key, and removed with its device", () =>
      Effect.gen(function* () {
        const alice = yield* register("take-alice")
        const bob = yield* register("take-bob")
        const carol = yield* register("take-carol")
        const receiver = yield* pushReceiver
        yield* as(bob)("POST", "/v3/pushers/set", pusher(receiver.url, "shared"))
        const invite = (user: TestUser) => as(alice)("POST", "/v3/createRoom", { invite: [user.id] })
        yield* invite(bob)
        assert.deepInclude(yield* receiver.next, { type: "m.room.member", user_is_target: true, sender: alice.id })
        yield* as(carol)("POST", "/v3/pushers/set", pusher(receiver.url, "shared"))
        assert.strictEqual((yield* as(bob)("GET", "/v3/pushers")).text, '{"pushers":[]}')
        yield* invite(bob)
        yield* invite(carol)
        assert.strictEqual((yield* receiver.next).user_is_target, true)
        const { body } = yield* logIn("take-carol")
        yield* as(carol)("POST", "/v3/logout")
        const list = yield* askToday("GET", "/v3/pushers", { token: body.access_token })
        assert.strictEqual(list.text, '{"pushers":[]}')
      })
    )

    it.effect("notifications are listed newest first, with their actions and whether they are read", () =>
      Effect.gen(function* () {
        const alice = yield* register("list-alice")
        const bob = yield* register("list-bob")
        const room = yield* roomWith(alice, [bob], { name: "Tea" })
        const first = yield* sendText(alice, room, "1")
        yield* sendText(bob, room, "mine")
        const second = yield* sendText(alice, room, "2", { "m.mentions": { user_ids: [bob.id] } })
        yield* as(bob)("PUT", "/v3/pushrules/global/content/tea", {
          pattern: "tea",
          actions: ["notify", { set_tweak: "highlight" }]
        })
        const third = yield* sendText(alice, room, "tea")
        yield* read(bob, room, second)
        interface Page {
          readonly notifications: ReadonlyArray<{
            readonly event: { readonly event_id: string }
            readonly [key: string]: unknown
          }>
          readonly next_token?: string
        }
        const list = (query: string) =>
          Effect.map(as(bob)("GET", `/v3/notifications?${query}`), ({ body }) => body as unknown as Page)
        const idsOf = ({ notifications }: Page) => notifications.map(({ event }) => event.event_id)
        const all = yield* list("")
        assert.deepStrictEqual(idsOf(all), [third, second, first])
        assert.deepStrictEqual(
          all.notifications.map((notification) => notification.read),
          [false, true, true]
        )
        assert.deepInclude(all.notifications[0], { room_id: room, actions: ["notify", { set_tweak: "highlight" }] })
        const page = yield* list("limit=2")
        assert.deepStrictEqual(idsOf(page), [third, second])
        assert.deepStrictEqual(idsOf(yield* list(`limit=2&from=${page.next_token}`)), [first])
        assert.deepStrictEqual(idsOf(yield* list("only=highlight")), [third, second])
        assert.strictEqual((yield* as(bob)("GET", "/v3/notifications?from=x")).body.errcode, "M_INVALID_PARAM")
      })
    )
  }
)

layer(gateway, { excludeTestServices: true })("pushers with the default address policy", (it) => {
  it.effect("with URLs in private networks, or not of a push gateway, are refused", () =>
    Effect.gen(function* () {
      const bob = yield* register("private-bob")
      const set = (url: string) => as(bob)("POST", "/v3/pushers/set", pusher(url, "key"))
      for (const url of [
        "https://127.0.0.1/_matrix/push/v1/notify",
        "https://[::1]/_matrix/push/v1/notify",
        "https://10.0.0.1/_matrix/push/v1/notify",
        "http://push.example.org/_matrix/push/v1/notify",
        "https://push.example.org/elsewhere",
        "nonsense"
      ]) {
        assert.strictEqual((yield* set(url)).body.errcode, "M_INVALID_PARAM", url)
      }
      const { data: _, ...incomplete } = pusher("", "key")
      assert.strictEqual((yield* as(bob)("POST", "/v3/pushers/set", incomplete)).body.errcode, "M_MISSING_PARAM")
      const url = "https://push.example.org/_matrix/push/v1/notify"
      const large = pusher(url, "key", {}, { more: "x".repeat(20_000) })
      assert.strictEqual((yield* as(bob)("POST", "/v3/pushers/set", large)).body.errcode, "M_TOO_LARGE")
    })
  )
})
