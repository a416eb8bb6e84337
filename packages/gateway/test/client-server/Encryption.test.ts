import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { askToday, gateway, inPath, register, type TestUser } from "../TestGateway.ts"

interface Device extends TestUser {
  readonly device: string
}

interface ToDeviceEvent {
  readonly sender: string
  readonly type: string
  readonly content: { readonly n: number }
}
interface Answer {
  readonly next_batch: string
  readonly to_device: { readonly events: ReadonlyArray<ToDeviceEvent> }
  readonly device_lists?: { readonly changed: ReadonlyArray<string>; readonly left: ReadonlyArray<string> }
  readonly device_one_time_keys_count: { readonly [algorithm: string]: number }
  readonly device_unused_fallback_key_types: ReadonlyArray<string>
}

const as = (user: TestUser) => (method: string, path: string, json?: unknown) =>
  askToday(method, path, { token: user.token, json })

const logIn = Effect.fnUntraced(function* (name: string, device?: string) {
  const { body } = yield* askToday("POST", "/v3/login", {
    json: {
      type: "m.login.password",
      identifier: { type: "m.id.user", user: name },
      password: `secret-${name}`,
      device_id: device
    }
  })
  return { id: body.user_id, token: body.access_token, device: body.device_id } as Device
})

const person = Effect.fnUntraced(function* (name: string) {
  yield* register(name)
  return yield* logIn(name)
})

const sync = (user: TestUser, since?: string, timeout = 0) =>
  Effect.map(
    as(user)("GET", `/v3/sync?timeout=${timeout}${since === undefined ? "" : `&since=${inPath(since)}`}`),
    ({ body }) => body as unknown as Answer
  )

const deviceKeys = ({ device, id }: Device, secret = "one") => ({
  user_id: id,
  device_id: device,
  algorithms: ["m.megolm.v1.aes-sha2"],
  keys: { [`ed25519:${device}`]: secret },
  signatures: { [id]: { [`ed25519:${device}`]: "signed" } }
})

const oneTime = (...numbers: ReadonlyArray<number>) =>
  Object.fromEntries(numbers.map((number) => [`signed_curve25519:k${number}`, { key: `one-time ${number}` }]))

const upload = (user: Device, keys: object) => as(user)("POST", "/v3/keys/upload", keys)
const query = (user: TestUser, ...users: ReadonlyArray<TestUser>) =>
  Effect.map(
    as(user)("POST", "/v3/keys/query", { device_keys: Object.fromEntries(users.map(({ id }) => [id, []])) }),
    ({ body }) => body.device_keys as Record<string, Record<string, { readonly [key: string]: unknown }>>
  )
const claim = (user: TestUser, of: Device) =>
  Effect.map(
    as(user)("POST", "/v3/keys/claim", { one_time_keys: { [of.id]: { [of.device]: "signed_curve25519" } } }),
    ({ body }) =>
      Object.keys((body.one_time_keys as Record<string, Record<string, object>>)[of.id]?.[of.device] ?? {})[0]
  )

const send = (user: TestUser, txn: string, to: TestUser, device: string, n: number) =>
  as(user)("PUT", `/v3/sendToDevice/m.test/${txn}`, { messages: { [to.id]: { [device]: { n } } } })

const numbers = ({ to_device }: Answer) => to_device.events.map(({ content }) => content.n)

const roomOf = Effect.fnUntraced(function* (owner: TestUser, ...others: ReadonlyArray<TestUser>) {
  const { body } = yield* as(owner)("POST", "/v3/createRoom", { preset: "public_chat" })
  for (const user of others) yield* as(user)("POST", `/v3/join/${inPath(body.room_id)}`, {})
  return body.room_id
})

layer(gateway, { excludeTestServices: true })("end-to-end encryption", (it) => {
  it.effect("keys of a device are found by others, with its name; other devices' keys are refused", () =>
    Effect.gen(function* () {
      const alice = yield* person("keys-alice")
      const bob = yield* person("keys-bob")
      const { body } = yield* upload(alice, { device_keys: deviceKeys(alice), one_time_keys: oneTime(1, 2) })
      assert.deepStrictEqual<unknown>(body, { one_time_key_counts: { signed_curve25519: 2 } })
      yield* as(alice)("PUT", `/v3/devices/${alice.device}`, { display_name: "Alice's phone" })
      assert.deepStrictEqual<unknown>(yield* query(bob, alice, bob), {
        [alice.id]: { [alice.device]: { ...deviceKeys(alice), unsigned: { device_display_name: "Alice's phone" } } },
        [bob.id]: {}
      })
      const forged = yield* upload(bob, { device_keys: deviceKeys(alice) })
      assert.deepStrictEqual([forged.status, forged.body.errcode], [400, "M_INVALID_PARAM"])
      const other = yield* upload(alice, { one_time_keys: { "signed_curve25519:k1": { key: "another" } } })
      assert.deepStrictEqual([other.status, other.body.errcode], [400, "M_INVALID_PARAM"])
      const many = Object.fromEntries(Array.from({ length: 1_001 }, (_, i) => [`signed_curve25519:m${i}`, "k"]))
      assert.strictEqual((yield* upload(alice, { one_time_keys: many })).body.errcode, "M_TOO_LARGE")
      assert.deepStrictEqual((yield* sync(alice)).device_one_time_keys_count, { signed_curve25519: 2 })
    })
  )

  it.effect("each one-time key is claimed once, the oldest first, then the fallback key", () =>
    Effect.gen(function* () {
      const alice = yield* person("claim-alice")
      const bob = yield* person("claim-bob")
      const keys = { one_time_keys: oneTime(...Array.from({ length: 10 }, (_, i) => i)) }
      yield* upload(alice, { ...keys, fallback_keys: { "signed_curve25519:f": { key: "f", fallback: true } } })
      assert.deepStrictEqual((yield* sync(alice)).device_unused_fallback_key_types, ["signed_curve25519"])
      assert.strictEqual(yield* claim(bob, alice), "signed_curve25519:k0")
      const claimed = yield* Effect.all(
        Array.from({ length: 9 }, () => claim(bob, alice)),
        { concurrency: "unbounded" }
      )
      assert.sameMembers(
        claimed,
        Array.from({ length: 9 }, (_, i) => `signed_curve25519:k${i + 1}`)
      )
      // A repeat of the upload, whose answer was lost, offers no claimed key again.
      yield* upload(alice, keys)
      assert.strictEqual(yield* claim(bob, alice), "signed_curve25519:f")
      assert.strictEqual(yield* claim(bob, alice), "signed_curve25519:f")
      const { device_one_time_keys_count, device_unused_fallback_key_types } = yield* sync(alice)
      assert.deepStrictEqual([device_one_time_keys_count, device_unused_fallback_key_types], [
        { signed_curve25519: 0 },
        []
      ] as never)
    })
  )

  it.effect("messages to a device arrive once, in order, 100 at a time, and again until they are acknowledged", () =>
    Effect.gen(function* () {
      const alice = yield* person("send-alice")
      const bob = yield* person("send-bob")
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

  it.effect("a waiting sync ends with a message; a wildcard reaches every device; a deleted device gets nothing", () =>
    Effect.gen(function* () {
      const alice = yield* person("wake-alice")
      const bob = yield* person("wake-bob")
      const tablet = yield* logIn("wake-bob", "TABLET")
      const [phoneSince, tabletSince] = [(yield* sync(bob)).next_batch, (yield* sync(tablet)).next_batch]
      const waiting = yield* Effect.forkChild(sync(bob, phoneSince, 60_000))
      yield* send(alice, "all", bob, "*", 1)
      assert.deepStrictEqual(numbers(yield* Fiber.join(waiting)), [1])
      assert.deepStrictEqual(numbers(yield* sync(tablet, tabletSince)), [1])
      yield* as(tablet)("POST", "/v3/logout")
      const again = yield* logIn("wake-bob", "TABLET")
      assert.deepStrictEqual(numbers(yield* sync(again)), [])
    })
  )

  it.effect("who shares a room hears whose devices change, who comes and who goes", () =>
    Effect.gen(function* () {
      const alice = yield* person("list-alice")
      const bob = yield* person("list-bob")
      const carol = yield* person("list-carol")
      yield* upload(carol, { device_keys: deviceKeys(carol) })
      const room = yield* roomOf(alice, bob)
      const start = (yield* sync(alice)).next_batch
      const waiting = yield* Effect.forkChild(sync(alice, start, 60_000))
      yield* upload(bob, { device_keys: deviceKeys(bob) })
      const changed = yield* Fiber.join(waiting)
      assert.deepStrictEqual(changed.device_lists, { changed: [bob.id], left: [] })
      yield* upload(bob, { device_keys: deviceKeys(bob) })
      yield* upload(carol, { device_keys: deviceKeys(carol, "two") })
      const nothing = yield* sync(alice, changed.next_batch)
      assert.deepStrictEqual(nothing.device_lists, { changed: [], left: [] })
      yield* as(carol)("POST", `/v3/join/${inPath(room)}`, {})
      const joined = yield* sync(alice, nothing.next_batch)
      assert.deepStrictEqual(joined.device_lists, { changed: [carol.id], left: [] })
      const seenByCarol = (yield* sync(carol)).next_batch
      yield* as(bob)("POST", "/v3/logout")
      assert.deepStrictEqual((yield* sync(carol, seenByCarol)).device_lists, { changed: [bob.id], left: [] })
      assert.deepStrictEqual<unknown>(yield* query(alice, bob), { [bob.id]: {} })
      yield* as(carol)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      const left = yield* sync(alice, joined.next_batch)
      assert.deepStrictEqual(left.device_lists, { changed: [bob.id], left: [carol.id] })
      assert.sameMembers((yield* sync(carol, seenByCarol)).device_lists!.left as string[], [alice.id, bob.id])
      const changes = yield* as(alice)("GET", `/v3/keys/changes?from=${inPath(start)}&to=${inPath(changed.next_batch)}`)
      assert.include(changes.body.changed as ReadonlyArray<string>, bob.id)
    })
  )
})
