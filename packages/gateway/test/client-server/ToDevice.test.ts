import { assert, layer } from "@effect/vitest"
import { maxWaitingBytes, maxWaitingMessages } from "@greenroom/actors/user/encryption/ToDevice"
import { OutgoingEduStore } from "@greenroom/store/OutgoingEduStore"
import { ToDeviceStore } from "@greenroom/store/ToDeviceStore"
import { Effect, Fiber } from "effect"
import { SqlClient } from "effect/sql"
import { as, gateway, gatewayWith, roomWith, type TestUser } from "../TestGateway.ts"
import {
  deviceKeys,
  numbers,
  oneTime,
  openDevice,
  registerDevice,
  type SyncAnswer,
  sync,
  upload
} from "./DeviceClient.ts"

const send = (user: TestUser, txn: string, to: TestUser, device: string, n: number) =>
  as(user)("PUT", `/v3/sendToDevice/m.test/${txn}`, { messages: { [to.id]: { [device]: { n } } } })

layer(gateway, { excludeTestServices: true })("messages to devices", (it) => {
  it.effect("arrive in order, 100 at a time, and again until they are acknowledged", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("send-alice")
      const bob = yield* registerDevice("send-bob")
      const { next_batch } = yield* sync(bob)
      for (let n = 0; n < 150; n++) yield* send(alice, `t${n}`, bob, bob.device, n)
      yield* send(alice, "t0", bob, bob.device, 0)
      const all = Array.from({ length: 150 }, (_, n) => n)
      const first = yield* sync(bob, next_batch)
      assert.deepStrictEqual(numbers(first), all.slice(0, 100))
      assert.deepStrictEqual(numbers(yield* sync(bob, next_batch)), all.slice(0, 100))
      const second = yield* sync(bob, first.next_batch)
      assert.deepStrictEqual(numbers(second), all.slice(100))
      assert.deepInclude(second.to_device.events[0], { sender: alice.id, type: "m.test" })
      assert.deepStrictEqual(numbers(yield* sync(bob, second.next_batch)), [])
      assert.deepStrictEqual(numbers(yield* sync(bob)), [])
    })
  )

  it.effect("end a waiting sync, reach all devices by a wildcard, and are deleted with their device", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("wake-alice")
      const bob = yield* registerDevice("wake-bob")
      const tablet = yield* openDevice("wake-bob", "TABLET")
      const [phoneSince, tabletSince] = [(yield* sync(bob)).next_batch, (yield* sync(tablet)).next_batch]
      const waiting = yield* Effect.forkChild(sync(bob, phoneSince, 60_000))
      yield* send(alice, "all", bob, "*", 1)
      const woken = yield* Fiber.join(waiting)
      assert.deepStrictEqual(numbers(woken), [1])
      assert.deepStrictEqual(numbers(yield* sync(bob, woken.next_batch)), [])
      assert.deepStrictEqual(numbers(yield* sync(tablet, tabletSince)), [1], "acknowledged by the other device alone")
      const path = "/v3/sendToDevice/m.other/all"
      yield* as(alice)("PUT", path, { messages: { [bob.id]: { [bob.device]: { n: 2 } } } })
      assert.deepStrictEqual(numbers(yield* sync(bob, woken.next_batch)), [2], "transaction IDs are of one event type")
      yield* as(tablet)("POST", "/v3/logout")
      const again = yield* openDevice("wake-bob", "TABLET")
      assert.deepStrictEqual(numbers(yield* sync(again)), [])
    })
  )

  it.effect("arrive by sliding sync until they are acknowledged, beside device lists and key counts", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("slide-alice")
      const bob = yield* registerDevice("slide-bob")
      yield* roomWith(alice, [bob])
      interface Sliding {
        readonly pos: string
        readonly extensions: {
          readonly to_device: SyncAnswer["to_device"] & { readonly next_batch: string }
          readonly e2ee: Omit<SyncAnswer, "to_device" | "next_batch">
        }
      }
      const slide = (pos?: string, since?: string, timeout = 0) =>
        Effect.map(
          as(bob)(
            "POST",
            `/unstable/org.matrix.simplified_msc3575/sync?timeout=${timeout}${pos === undefined ? "" : `&pos=${pos}`}`,
            { extensions: { to_device: { enabled: true, limit: 2, since }, e2ee: { enabled: true } } }
          ),
          ({ body }) => body as unknown as Sliding
        )
      yield* upload(bob, { one_time_keys: oneTime(1, 2, 3) })
      const first = yield* slide()
      assert.deepStrictEqual(first.extensions.e2ee.device_one_time_keys_count, { signed_curve25519: 3 })
      const waiting = yield* Effect.forkChild(slide(first.pos, first.extensions.to_device.next_batch, 60_000))
      for (const n of [1, 2, 3]) yield* send(alice, `slide-${n}`, bob, bob.device, n)
      const second = yield* Fiber.join(waiting)
      assert.strictEqual(numbers(second.extensions as never)[0], 1)
      const again = yield* slide(second.pos, first.extensions.to_device.next_batch)
      assert.deepStrictEqual(numbers(again.extensions as never), [1, 2])
      const third = yield* slide(again.pos, again.extensions.to_device.next_batch)
      assert.deepStrictEqual(numbers(third.extensions as never), [3])
      const listening = yield* Effect.forkChild(slide(third.pos, third.extensions.to_device.next_batch, 60_000))
      yield* upload(alice, { device_keys: deviceKeys(alice) })
      const { extensions } = yield* Fiber.join(listening)
      assert.deepStrictEqual(extensions.e2ee.device_lists, { changed: [alice.id], left: [] })
    })
  )

  it.effect("are limited in number and size for each request and for each device", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("flood-alice")
      const unused = yield* registerDevice("flood-bob")
      const sql = yield* SqlClient.SqlClient
      const devices = (count: number, content: object) =>
        Object.fromEntries(Array.from({ length: count }, (_, n) => [`D${n}`, content]))
      const flood = (messages: object) => as(alice)("PUT", "/v3/sendToDevice/m.test/flood", { messages })
      const tooMany = yield* flood({ [unused.id]: devices(10_001, {}) })
      assert.deepStrictEqual([tooMany.status, tooMany.body.errcode], [413, "M_TOO_LARGE"])
      const tooLarge = yield* flood({ [unused.id]: { "*": { text: "x".repeat(70_000) } } })
      assert.deepStrictEqual([tooLarge.status, tooLarge.body.errcode], [413, "M_TOO_LARGE"])
      assert.strictEqual((yield* flood({ [unused.id]: { "*": "no object" } })).body.errcode, "M_BAD_JSON")
      assert.strictEqual(
        (yield* flood({ [unused.id]: devices(10_000, {}) })).status,
        200,
        "the user has none of these devices"
      )
      yield* sql`
        INSERT INTO to_device_messages (user_id, device_id, sender, type, content)
        SELECT ${unused.id}, ${unused.device}, ${alice.id}, 'm.test', '{"n":' || n || '}' FROM generate_series(0, 99999) n`
      assert.strictEqual((yield* send(alice, "one more", unused, unused.device, 100_000)).status, 200)
      const first = numbers(yield* sync(unused))
      assert.deepStrictEqual(
        first,
        Array.from({ length: 100 }, (_, n) => n)
      )
      const store = yield* ToDeviceStore
      assert.strictEqual(yield* store.trim(maxWaitingMessages, maxWaitingBytes), 100_001 - maxWaitingMessages)
      assert.strictEqual(yield* store.trim(maxWaitingMessages, maxWaitingBytes), 0)
      const { next_batch, to_device } = yield* sync(unused)
      const oldest = 100_001 - maxWaitingMessages
      assert.deepStrictEqual(
        to_device.events.map(({ content }) => content.n),
        Array.from({ length: 100 }, (_, n) => oldest + n),
        "the newest are kept, in order"
      )
      assert.strictEqual(numbers(yield* sync(unused, next_batch))[0], oldest + 100)
      // Messages are bounded in bytes too. `{"n":99999}` has 11 bytes.
      yield* store.trim(maxWaitingMessages, 110)
      assert.deepStrictEqual(numbers(yield* sync(unused)).slice(-1), [100_000])
      assert.isAtMost(numbers(yield* sync(unused)).length, 10)
    })
  )
})

layer(gatewayWith({}, { federation: { enabled: false } }), { excludeTestServices: true })(
  "messages to devices of other servers",
  (it) => {
    it.effect("wait for few servers that were never reached", () =>
      Effect.gen(function* () {
        const alice = yield* registerDevice("strangers-alice")
        const to = (txn: string, servers: number) =>
          as(alice)("PUT", `/v3/sendToDevice/m.test/${txn}`, {
            messages: Object.fromEntries(
              Array.from({ length: servers }, (_, index) => [`@bob:s${index}.${txn}.invalid`, { PHONE: { n: 1 } }])
            )
          })
        const waiting = SqlClient.SqlClient.use(
          (sql) => sql<{ count: number }>`SELECT count(*)::integer AS count FROM outgoing_edus`
        ).pipe(Effect.map(([row]) => row!.count))
        const refused = yield* to("many", 21)
        assert.deepStrictEqual([refused.status, refused.body.errcode], [413, "M_TOO_LARGE"])
        assert.strictEqual(yield* waiting, 0)
        assert.strictEqual((yield* to("few", 1)).status, 200)
        yield* SqlClient.SqlClient.use((sql) =>
          Effect.andThen(
            sql`
            INSERT INTO outgoing_edus (destination, edu_type, content)
            SELECT 's' || n || '.silent.invalid', 'm.direct_to_device', '{}' FROM generate_series(1, 999) n`,
            sql`INSERT INTO destinations (destination, failures) VALUES ('s1.silent.invalid', 13), ('s2.silent.invalid', 12)`
          )
        )
        const full = yield* to("full", 1)
        assert.deepStrictEqual([full.status, full.body.errcode], [429, "M_LIMIT_EXCEEDED"])
        assert.strictEqual(yield* waiting, 1_000)
        const { trim } = yield* OutgoingEduStore
        assert.strictEqual(yield* trim(50_000, 13), 1)
        assert.strictEqual((yield* to("again", 1)).status, 200)
      }).pipe(Effect.provide(OutgoingEduStore.layer))
    )
  }
)
