import { generateKeyPairSync, sign as sign_ } from "node:crypto"
import { assert, layer } from "@effect/vitest"
import { maxWaitingBytes, maxWaitingMessages } from "@greenroom/actors/user/encryption/ToDevice"
import { encode } from "@greenroom/room/CanonicalJson"
import { ToDeviceStore } from "@greenroom/store/ToDeviceStore"
import { Effect, Fiber, Result } from "effect"
import { SqlClient } from "effect/sql"
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

/** The device lists that changed since a token: a request that does not wait may come before the log has been read so far. */
const listsSince = (user: TestUser, since: string) =>
  Effect.map(
    Effect.repeat(sync(user, since), { until: ({ device_lists }) => (device_lists?.changed?.length ?? 0) > 0 }),
    ({ device_lists }) => device_lists
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
/** A key that signs in the name of a user. */
const signingKey = (userId: string) => {
  const { privateKey, publicKey } = generateKeyPairSync("ed25519")
  const text = publicKey.export({ format: "der", type: "spki" }).subarray(12).toString("base64").replace(/=+$/, "")
  const keyId = `ed25519:${text}`
  const sign = <A extends object>(object: A) => {
    const bytes = Buffer.from(Result.getOrThrow(encode(object as never)))
    const signature = sign_(null, bytes, privateKey).toString("base64").replace(/=+$/, "")
    return { ...object, signatures: { [userId]: { [keyId]: signature } } }
  }
  return { publicKey: text, keyId, sign }
}

const crossSigningKeys = ({ id }: TestUser) => {
  const [master, selfSigning, userSigning] = [signingKey(id), signingKey(id), signingKey(id)]
  const key = (usage: string, { keyId, publicKey }: ReturnType<typeof signingKey>) => ({
    user_id: id,
    usage: [usage],
    keys: { [keyId]: publicKey }
  })
  return {
    master,
    selfSigning,
    userSigning,
    upload: {
      master_key: key("master", master),
      self_signing_key: master.sign(key("self_signing", selfSigning)),
      user_signing_key: master.sign(key("user_signing", userSigning))
    }
  }
}

type Keys = Record<string, Record<string, unknown>>
const queryAll = (user: TestUser, ...users: ReadonlyArray<TestUser>) =>
  Effect.map(
    as(user)("POST", "/v3/keys/query", { device_keys: Object.fromEntries(users.map(({ id }) => [id, []])) }),
    ({ body }) => body as unknown as Record<"master_keys" | "self_signing_keys" | "user_signing_keys", Keys>
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

  it.effect("users who share a room receive changes of devices, joins and leaves", () =>
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
      yield* as(bob)("PUT", `/v3/profile/${inPath(bob.id)}/displayname`, { displayname: "Bob \u0000 \ud800" })
      const nothing = yield* sync(alice, changed.next_batch)
      assert.deepStrictEqual(nothing.device_lists, { changed: [], left: [] })
      yield* as(carol)("POST", `/v3/join/${inPath(room)}`, {})
      const joined = yield* sync(alice, nothing.next_batch)
      assert.deepStrictEqual(joined.device_lists, { changed: [carol.id], left: [] })
      const seenByCarol = (yield* sync(carol)).next_batch
      yield* as(bob)("POST", "/v3/logout")
      assert.deepStrictEqual(yield* listsSince(carol, seenByCarol), { changed: [bob.id], left: [] })
      assert.deepStrictEqual<unknown>(yield* query(alice, bob), { [bob.id]: {} })
      yield* as(carol)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      const left = yield* sync(alice, joined.next_batch)
      assert.deepStrictEqual(left.device_lists, { changed: [bob.id], left: [carol.id] })
      assert.sameMembers((yield* sync(carol, seenByCarol)).device_lists!.left as string[], [alice.id, bob.id])
      const changes = yield* as(alice)("GET", `/v3/keys/changes?from=${inPath(start)}&to=${inPath(changed.next_batch)}`)
      assert.include(changes.body.changed as ReadonlyArray<string>, bob.id)
      // Alice misses changes while she is out, also where she was out between two syncs.
      const before = (yield* sync(alice, left.next_batch)).next_batch
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      assert.strictEqual((yield* as(alice)("POST", `/v3/join/${inPath(room)}`, {})).status, 200)
      const returned = yield* sync(alice, before)
      assert.deepStrictEqual(returned.device_lists, { changed: [bob.id], left: [] })
    })
  )

  it.effect("cross-signing keys are set once freely, replaced by password, and signatures are checked", () =>
    Effect.gen(function* () {
      const alice = yield* person("cross-alice")
      const bob = yield* person("cross-bob")
      yield* upload(alice, { device_keys: deviceKeys(alice) })
      const keys = crossSigningKeys(alice)
      const forged = { ...keys.upload, self_signing_key: { ...keys.upload.self_signing_key, signatures: {} } }
      const setUp = "/v3/keys/device_signing/upload"
      assert.strictEqual((yield* as(alice)("POST", setUp, forged)).body.errcode, "M_INVALID_SIGNATURE")
      const { master_key: _, ...withoutMaster } = keys.upload
      assert.strictEqual((yield* as(alice)("POST", setUp, withoutMaster)).body.errcode, "M_MISSING_PARAM")
      assert.strictEqual((yield* as(alice)("POST", setUp, keys.upload)).text, "{}")
      assert.strictEqual((yield* as(alice)("POST", setUp, keys.upload)).text, "{}")
      const ofBob = crossSigningKeys(bob)
      yield* as(bob)("POST", setUp, ofBob.upload)

      const seen = yield* queryAll(bob, alice, bob)
      assert.deepStrictEqual<unknown>(seen.master_keys, {
        [alice.id]: { signatures: {}, ...keys.upload.master_key },
        [bob.id]: { signatures: {}, ...ofBob.upload.master_key }
      })
      assert.sameMembers(Object.keys(seen.self_signing_keys), [alice.id, bob.id])
      assert.deepStrictEqual(Object.keys(seen.user_signing_keys), [bob.id])

      const { signatures: _signatures, ...device } = deviceKeys(alice)
      const signedDevice = keys.selfSigning.sign(device)
      const signedMaster = ofBob.userSigning.sign(keys.upload.master_key)
      const uploadSignatures = (user: TestUser, body: object) =>
        Effect.map(as(user)("POST", "/v3/keys/signatures/upload", body), ({ body }) => body.failures)
      const wrong = { ...signedDevice, algorithms: ["another"] }
      const failures = yield* uploadSignatures(alice, { [alice.id]: { [alice.device]: wrong } })
      assert.deepInclude(failures as object, {
        [alice.id]: { [alice.device]: (failures as Record<string, Record<string, object>>)[alice.id]![alice.device] }
      })
      assert.deepStrictEqual<unknown>(
        yield* uploadSignatures(alice, { [alice.id]: { [alice.device]: signedDevice } }),
        {}
      )
      assert.hasAllKeys((yield* query(bob, alice))[alice.id]![alice.device]!.signatures as object, [alice.id])
      assert.hasAllKeys(
        ((yield* query(bob, alice))[alice.id]![alice.device]!.signatures as Record<string, object>)[alice.id],
        [`ed25519:${alice.device}`, keys.selfSigning.keyId]
      )
      const since = (yield* sync(bob)).next_batch
      assert.deepStrictEqual<unknown>(
        yield* uploadSignatures(bob, { [alice.id]: { [keys.master.publicKey]: signedMaster } }),
        {}
      )
      assert.deepStrictEqual(yield* listsSince(bob, since), { changed: [alice.id], left: [] })
      const signersFor = (user: TestUser) =>
        Effect.map(queryAll(user, alice), ({ master_keys }) => Object.keys(master_keys[alice.id]!.signatures as object))
      assert.deepStrictEqual(yield* signersFor(bob), [bob.id])
      assert.deepStrictEqual(yield* signersFor(alice), [])

      const others = crossSigningKeys(alice)
      const asked = yield* as(alice)("POST", setUp, others.upload)
      assert.strictEqual(asked.status, 401)
      const auth = {
        type: "m.login.password",
        session: asked.body.session,
        identifier: { type: "m.id.user", user: "cross-alice" },
        password: "secret-cross-alice"
      }
      assert.strictEqual((yield* as(alice)("POST", setUp, { ...others.upload, auth })).text, "{}")
      assert.deepStrictEqual(yield* signersFor(bob), [])
    })
  )

  it.effect("a key backup keeps the better key, counts, and takes keys for the current version alone", () =>
    Effect.gen(function* () {
      const alice = yield* person("backup-alice")
      const path = "/v3/room_keys"
      const algorithm = "m.megolm_backup.v1.curve25519-aes-sha2"
      const description = { algorithm, auth_data: { public_key: "abc" } }
      assert.strictEqual((yield* as(alice)("GET", `${path}/version`)).body.errcode, "M_NOT_FOUND")
      const { version } = (yield* as(alice)("POST", `${path}/version`, description)).body
      const key = (n: number, index = 5, isVerified = false) => ({
        first_message_index: index,
        forwarded_count: 0,
        is_verified: isVerified,
        session_data: { n }
      })
      const room = inPath("!room:green.test")
      const put = (n: number, index?: number, isVerified?: boolean) =>
        as(alice)("PUT", `${path}/keys/${room}/s1?version=${version}`, key(n, index, isVerified))
      const stored = Effect.map(
        as(alice)("GET", `${path}/keys/${room}/s1?version=${version}`),
        ({ body }) => body.session_data as { readonly n: number }
      )
      const first = (yield* put(1)).body
      assert.strictEqual(first.count, 1)
      assert.strictEqual((yield* put(2)).body.etag, first.etag)
      assert.deepStrictEqual(yield* stored, { n: 1 })
      assert.notStrictEqual((yield* put(3, 4)).body.etag, first.etag)
      yield* put(4, 9, true)
      yield* put(5, 0, false)
      assert.deepStrictEqual(yield* stored, { n: 4 })
      const many = { rooms: { "!room:green.test": { sessions: { s2: key(6), s3: key(7) } } } }
      assert.strictEqual((yield* as(alice)("PUT", `${path}/keys?version=${version}`, many)).body.count, 3)
      const all = (yield* as(alice)("GET", `${path}/keys?version=${version}`)).body
      assert.hasAllKeys((all.rooms as Record<string, { sessions: object }>)["!room:green.test"]!.sessions, [
        "s1",
        "s2",
        "s3"
      ])
      const update = { ...description, auth_data: { public_key: "def" } }
      assert.strictEqual((yield* as(alice)("PUT", `${path}/version/${version}`, update)).text, "{}")
      const other = yield* as(alice)("PUT", `${path}/version/${version}`, { ...update, algorithm: "other" })
      assert.strictEqual(other.body.errcode, "M_INVALID_PARAM")
      assert.deepInclude((yield* as(alice)("GET", `${path}/version`)).body as object, {
        version,
        count: 3,
        auth_data: { public_key: "def" }
      })
      const deleted = yield* as(alice)("DELETE", `${path}/keys/${room}/s2?version=${version}`)
      assert.strictEqual(deleted.body.count, 2)
      const second = (yield* as(alice)("POST", `${path}/version`, description)).body.version
      const wrong = yield* put(8, 0, true)
      assert.deepInclude(wrong.body as object, { errcode: "M_WRONG_ROOM_KEYS_VERSION", current_version: second })
      assert.strictEqual((yield* as(alice)("DELETE", `${path}/version/${version}`)).text, "{}")
      assert.strictEqual((yield* as(alice)("DELETE", `${path}/version/${version}`)).text, "{}")
      assert.strictEqual((yield* as(alice)("DELETE", `${path}/version/77`)).body.errcode, "M_NOT_FOUND")
      assert.strictEqual((yield* as(alice)("GET", `${path}/keys?version=${version}`)).body.errcode, "M_NOT_FOUND")
      assert.strictEqual((yield* as(alice)("GET", `${path}/keys?version=${second}`)).text, '{"rooms":{}}')
    })
  )

  it.effect("sliding sync has messages to the device until they are acknowledged, device lists and key counts", () =>
    Effect.gen(function* () {
      const alice = yield* person("slide-alice")
      const bob = yield* person("slide-bob")
      yield* roomOf(alice, bob)
      interface Sliding {
        readonly pos: string
        readonly extensions: {
          readonly to_device: Answer["to_device"] & { readonly next_batch: string }
          readonly e2ee: Omit<Answer, "to_device" | "next_batch">
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

  it.effect("versions and keys of a backup that two devices write at once are all kept, and old versions refused", () =>
    Effect.gen(function* () {
      const phone = yield* person("race-alice")
      const tablet = yield* logIn("race-alice", "TABLET")
      const path = "/v3/room_keys"
      const description = { algorithm: "m.megolm_backup.v1.curve25519-aes-sha2", auth_data: { public_key: "abc" } }
      const all = { concurrency: "unbounded" } as const
      const made = yield* Effect.forEach(
        [phone, tablet, phone, tablet, phone, tablet],
        (device) => as(device)("POST", `${path}/version`, description),
        all
      )
      assert.deepStrictEqual(new Set(made.map(({ status }) => status)), new Set([200]))
      const versions = made.map(({ body }) => Number(body.version)).sort((a, b) => a - b)
      assert.strictEqual(new Set(versions).size, 6, "each has a version of its own")
      const newest = String(versions.at(-1))
      const key = (index: number) => ({
        first_message_index: index,
        forwarded_count: 0,
        is_verified: false,
        session_data: { index }
      })
      const put = (device: Device, version: string, session: string, index: number) =>
        as(device)("PUT", `${path}/keys/${inPath("!r:green.test")}/${session}?version=${version}`, key(index))
      const indexes = Array.from({ length: 24 }, (_, index) => index)
      const answers = yield* Effect.forEach(
        indexes,
        (index) => {
          const device = index % 2 === 0 ? phone : tablet
          return Effect.all([put(device, newest, `s${index}`, index), put(device, newest, "same", 24 - index)], all)
        },
        all
      )
      assert.deepStrictEqual(new Set(answers.flat().map(({ status }) => status)), new Set([200]))
      const { body } = yield* as(phone)("GET", `${path}/version`)
      assert.deepInclude(body as object, { version: newest, count: 25 })
      const best = yield* as(phone)("GET", `${path}/keys/${inPath("!r:green.test")}/same?version=${newest}`)
      assert.deepStrictEqual<unknown>(best.body.session_data, { index: 1 }, "the better key wins, whoever comes last")
      // One device makes a version while the other uploads to the one before.
      const [next, ...late] = yield* Effect.all(
        [as(phone)("POST", `${path}/version`, description), ...indexes.map((n) => put(tablet, newest, `late${n}`, n))],
        all
      )
      const refused = late.filter(({ status }) => status !== 200)
      for (const { body } of refused) assert.strictEqual(body.errcode, "M_WRONG_ROOM_KEYS_VERSION")
      const before = yield* as(phone)("GET", `${path}/version/${newest}`)
      assert.strictEqual(before.body.count, 25 + late.length - refused.length)
      const after = yield* as(phone)("GET", `${path}/version/${next.body.version}`)
      assert.strictEqual(after.body.count, 0)
    })
  )

  it.effect(
    "floods of messages to devices are refused, and the messages of a dead device are bounded and delay no others",
    () =>
      Effect.gen(function* () {
        const alice = yield* person("flood-alice")
        const dead = yield* person("flood-bob")
        const sql = yield* SqlClient.SqlClient
        const devices = (count: number, content: object) =>
          Object.fromEntries(Array.from({ length: count }, (_, n) => [`D${n}`, content]))
        const flood = (messages: object) => as(alice)("PUT", "/v3/sendToDevice/m.test/flood", { messages })
        const tooMany = yield* flood({ [dead.id]: devices(10_001, {}) })
        assert.deepStrictEqual([tooMany.status, tooMany.body.errcode], [413, "M_TOO_LARGE"])
        const tooLarge = yield* flood({ [dead.id]: { "*": { text: "x".repeat(70_000) } } })
        assert.deepStrictEqual([tooLarge.status, tooLarge.body.errcode], [413, "M_TOO_LARGE"])
        assert.strictEqual((yield* flood({ [dead.id]: { "*": "no object" } })).body.errcode, "M_BAD_JSON")
        assert.strictEqual((yield* flood({ [dead.id]: devices(10_000, {}) })).status, 200, "nobody has these devices")
        yield* sql`
        INSERT INTO to_device_messages (user_id, device_id, sender, type, content)
        SELECT ${dead.id}, ${dead.device}, ${alice.id}, 'm.test', '{"n":' || n || '}' FROM generate_series(0, 99999) n`
        assert.strictEqual((yield* send(alice, "one more", dead, dead.device, 100_000)).status, 200)
        const first = numbers(yield* sync(dead))
        assert.deepStrictEqual(
          first,
          Array.from({ length: 100 }, (_, n) => n)
        )
        const store = yield* ToDeviceStore
        assert.strictEqual(yield* store.trim(maxWaitingMessages, maxWaitingBytes), 100_001 - maxWaitingMessages)
        assert.strictEqual(yield* store.trim(maxWaitingMessages, maxWaitingBytes), 0)
        const { next_batch, to_device } = yield* sync(dead)
        const oldest = 100_001 - maxWaitingMessages
        assert.deepStrictEqual(
          to_device.events.map(({ content }) => content.n),
          Array.from({ length: 100 }, (_, n) => oldest + n),
          "the newest are kept, and come in order"
        )
        assert.strictEqual(numbers(yield* sync(dead, next_batch))[0], oldest + 100)
        // Large messages are bounded by their bytes: `{"n":99999}` has eleven of them.
        yield* store.trim(maxWaitingMessages, 110)
        assert.deepStrictEqual(numbers(yield* sync(dead)).slice(-1), [100_000])
        assert.isAtMost(numbers(yield* sync(dead)).length, 10)
      })
  )

  it.effect("claimed keys, large keys and signatures of strangers do not pile up", () =>
    Effect.gen(function* () {
      const alice = yield* person("pile-alice")
      const sql = yield* SqlClient.SqlClient
      for (let round = 0; round < 3; round++) {
        const keys = oneTime(...Array.from({ length: 1_000 }, (_, n) => round * 1_000 + n))
        assert.strictEqual((yield* upload(alice, { one_time_keys: keys })).status, 200)
        yield* sql`UPDATE one_time_keys SET claimed_at = ${Date.now()} WHERE user_id = ${alice.id}`
      }
      assert.strictEqual((yield* upload(alice, { one_time_keys: oneTime(5_000) })).status, 200)
      const kept = yield* sql`SELECT 1 FROM one_time_keys WHERE user_id = ${alice.id}`
      assert.strictEqual(kept.length, 1_001)
      const large = yield* upload(alice, { one_time_keys: { "signed_curve25519:large": { key: "x".repeat(9_000) } } })
      assert.deepStrictEqual([large.status, large.body.errcode], [413, "M_TOO_LARGE"])

      const keys = crossSigningKeys(alice)
      assert.strictEqual((yield* as(alice)("POST", "/v3/keys/device_signing/upload", keys.upload)).status, 200)
      yield* sql`
        INSERT INTO user_signatures (signer, user_id, signatures)
        SELECT ${alice.id}, '@stranger' || n || ':elsewhere.test', '{}' FROM generate_series(1, 10000) n`
      const stranger = { id: "@one.more:elsewhere.test", token: "" }
      const theirs = crossSigningKeys(stranger).upload.master_key
      const [keyId] = Object.keys(theirs.keys)
      const { body } = yield* as(alice)("POST", "/v3/keys/signatures/upload", {
        [stranger.id]: { [keyId!.slice("ed25519:".length)]: keys.userSigning.sign(theirs) }
      })
      const { failures } = body as unknown as { readonly failures: Record<string, Record<string, { errcode: string }>> }
      assert.deepStrictEqual(
        Object.values(failures[stranger.id] ?? {}).map(({ errcode }) => errcode),
        ["M_RESOURCE_LIMIT_EXCEEDED"]
      )
    })
  )

  it.effect("signatures that others forge are refused one by one, and the good ones kept", () =>
    Effect.gen(function* () {
      const alice = yield* person("forge-alice")
      const mallory = yield* person("forge-mallory")
      const keys = crossSigningKeys(alice)
      const ofMallory = crossSigningKeys(mallory)
      yield* upload(alice, { device_keys: deviceKeys(alice) })
      const setUp = "/v3/keys/device_signing/upload"
      // Another user's keys, and keys that another's master key has signed.
      assert.strictEqual((yield* as(mallory)("POST", setUp, keys.upload)).status, 400)
      const stolen = { ...ofMallory.upload, self_signing_key: keys.upload.self_signing_key }
      assert.strictEqual((yield* as(mallory)("POST", setUp, stolen)).status, 400)
      assert.strictEqual((yield* as(alice)("POST", setUp, keys.upload)).status, 200)
      assert.strictEqual((yield* as(mallory)("POST", setUp, ofMallory.upload)).status, 200)
      const { signatures: _, ...bare } = deviceKeys(alice)
      // In the name of Alice, by a key of Mallory's.
      const inHerName = {
        ...bare,
        signatures: { [alice.id]: { [ofMallory.selfSigning.keyId]: "c2lnbmVk" } }
      }
      const good = keys.selfSigning.sign(bare)
      const signatures = (user: TestUser, signed: object) =>
        as(user)("POST", "/v3/keys/signatures/upload", { [alice.id]: { [alice.device]: signed } })
      const altered = { ...good, algorithms: ["none"] }
      for (const [user, signed] of [
        [mallory, inHerName],
        [mallory, good],
        [alice, inHerName],
        [alice, altered]
      ] as const) {
        const { body, status } = yield* signatures(user, signed)
        assert.strictEqual(status, 200)
        const { failures } = body as unknown as { readonly failures: Record<string, Record<string, object>> }
        assert.property(failures[alice.id] ?? {}, alice.device)
      }
      assert.strictEqual((yield* signatures(alice, good)).text, '{"failures":{}}')
      const seen = (yield* query(mallory, alice))[alice.id]?.[alice.device]?.signatures as Record<string, object>
      assert.sameMembers(Object.keys(seen[alice.id] ?? {}), [`ed25519:${alice.device}`, keys.selfSigning.keyId])
    })
  )
})
