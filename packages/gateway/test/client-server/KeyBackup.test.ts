import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, gateway, inPath } from "../TestGateway.ts"
import { type Device, openDevice, registerDevice } from "./DeviceClient.ts"

layer(gateway, { excludeTestServices: true })("key backup", (it) => {
  it.effect("keeps the better of two keys, counts keys, and accepts keys of the current version alone", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("backup-alice")
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
      const elsewhere = yield* as(alice)("PUT", `${path}/version/${version}`, { ...update, version: "77" })
      assert.strictEqual(elsewhere.body.errcode, "M_INVALID_PARAM", "the version is that of the path")
      const long = { ...update, auth_data: { public_key: "x".repeat(70_000) } }
      assert.strictEqual((yield* as(alice)("PUT", `${path}/version/${version}`, long)).body.errcode, "M_TOO_LARGE")
      const large = { ...key(8), session_data: { n: "x".repeat(20_000) } }
      const stated = yield* as(alice)("PUT", `${path}/keys/${room}/s4?version=${version}`, large)
      assert.strictEqual(stated.body.errcode, "M_TOO_LARGE")
      assert.deepInclude((yield* as(alice)("GET", `${path}/version`)).body as object, {
        version,
        count: 3,
        auth_data: { public_key: "def" }
      })
      const { etag } = (yield* as(alice)("GET", `${path}/version`)).body
      const deleted = yield* as(alice)("DELETE", `${path}/keys/${room}/s2?version=${version}`)
      assert.strictEqual(deleted.body.count, 2)
      assert.notStrictEqual(deleted.body.etag, etag)
      const unchanged = yield* as(alice)("DELETE", `${path}/keys/${room}/s2?version=${version}`)
      assert.deepStrictEqual(unchanged.body, deleted.body)
      const second = (yield* as(alice)("POST", `${path}/version`, description)).body.version
      const wrong = yield* put(8, 0, true)
      assert.deepInclude(wrong.body as object, { errcode: "M_WRONG_ROOM_KEYS_VERSION", current_version: second })
      assert.strictEqual((yield* as(alice)("DELETE", `${path}/version/${version}`)).text, "{}")
      assert.strictEqual((yield* as(alice)("DELETE", `${path}/version/${version}`)).text, "{}")
      assert.strictEqual((yield* as(alice)("DELETE", `${path}/version/77`)).body.errcode, "M_NOT_FOUND")
      assert.strictEqual((yield* as(alice)("GET", `${path}/keys?version=${version}`)).body.errcode, "M_NOT_FOUND")
      assert.strictEqual((yield* as(alice)("DELETE", `${path}/keys?version=${version}`)).body.errcode, "M_NOT_FOUND")
      assert.strictEqual((yield* as(alice)("GET", `${path}/keys?version=${second}`)).text, '{"rooms":{}}')
    })
  )

  it.effect("accepts auth_data and session_data as objects and, from older clients, as text", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("text-alice")
      const path = "/v3/room_keys"
      const create = (auth_data: unknown) => as(alice)("POST", `${path}/version`, { algorithm: "any", auth_data })
      for (const wrong of [undefined, null, 5, true, ["a"]]) {
        assert.strictEqual((yield* create(wrong)).body.errcode, wrong === undefined ? "M_MISSING_PARAM" : "M_BAD_JSON")
      }
      const text = 'opaque "\u0000" text'
      const { version } = (yield* create(text)).body
      assert.strictEqual((yield* as(alice)("GET", `${path}/version`)).body.auth_data, text)
      const key = (session_data: unknown) => ({
        first_message_index: 0,
        forwarded_count: 0,
        is_verified: true,
        session_data
      })
      const ofKey = `${path}/keys/!room:example.org/s1?version=${version}`
      assert.strictEqual((yield* as(alice)("PUT", ofKey, key(5))).body.errcode, "M_BAD_JSON")
      assert.strictEqual((yield* as(alice)("PUT", ofKey, key(text))).body.count, 1)
      assert.deepStrictEqual<unknown>((yield* as(alice)("GET", ofKey)).body, key(text))
    })
  )

  it.effect("keeps all versions and keys that two devices upload at once, and refuses keys of older versions", () =>
    Effect.gen(function* () {
      const phone = yield* registerDevice("race-alice")
      const tablet = yield* openDevice("race-alice", "TABLET")
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
      assert.strictEqual(new Set(versions).size, 6, "every upload creates a version")
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
      assert.deepStrictEqual<unknown>(
        best.body.session_data,
        { index: 1 },
        "the better key is kept, whatever the order"
      )
      // One device creates a version while the other uploads keys to the version before.
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
})
