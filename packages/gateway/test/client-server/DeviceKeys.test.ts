import { assert, layer } from "@effect/vitest"
import { Effect, Fiber } from "effect"
import { SqlClient } from "effect/sql"
import { as, gateway, inPath, joinRoom, putState, roomWith, type TestUser } from "../TestGateway.ts"
import {
  crossSigningKeys,
  type Device,
  deviceKeys,
  listsSince,
  oneTime,
  openDevice,
  query,
  registerDevice,
  sync,
  upload
} from "./DeviceClient.ts"

const claim = (user: TestUser, of: Device) =>
  Effect.map(
    as(user)("POST", "/v3/keys/claim", { one_time_keys: { [of.id]: { [of.device]: "signed_curve25519" } } }),
    ({ body }) =>
      Object.keys((body.one_time_keys as Record<string, Record<string, object>>)[of.id]?.[of.device] ?? {})[0]
  )

layer(gateway, { excludeTestServices: true })("device keys", (it) => {
  it.effect("the keys of a device are returned with its name; uploads of keys of another device are refused", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("keys-alice")
      const bob = yield* registerDevice("keys-bob")
      const { body } = yield* upload(alice, { device_keys: deviceKeys(alice), one_time_keys: oneTime(1, 2) })
      assert.deepStrictEqual<unknown>(body, { one_time_key_counts: { signed_curve25519: 2 } })
      yield* as(alice)("PUT", `/v3/devices/${alice.device}`, { display_name: "Alice's phone" })
      assert.deepStrictEqual<unknown>(yield* query(bob, alice, bob), {
        [alice.id]: { [alice.device]: { ...deviceKeys(alice), unsigned: { device_display_name: "Alice's phone" } } },
        [bob.id]: {}
      })
      const forged = yield* upload(bob, { device_keys: deviceKeys(alice) })
      assert.deepStrictEqual([forged.status, forged.body.errcode], [400, "M_INVALID_PARAM"])
      const ofAnother = yield* upload(alice, { device_keys: { ...deviceKeys(alice), device_id: "ANOTHER" } })
      assert.deepStrictEqual([ofAnother.status, ofAnother.body.errcode], [400, "M_INVALID_PARAM"])
      const other = yield* upload(alice, { one_time_keys: { "signed_curve25519:k1": { key: "another" } } })
      assert.deepStrictEqual([other.status, other.body.errcode], [400, "M_INVALID_PARAM"])
      const many = Object.fromEntries(Array.from({ length: 1_001 }, (_, i) => [`signed_curve25519:m${i}`, "k"]))
      assert.strictEqual((yield* upload(alice, { one_time_keys: many })).body.errcode, "M_TOO_LARGE")
      assert.deepStrictEqual((yield* sync(alice)).device_one_time_keys_count, { signed_curve25519: 2 })
    })
  )

  it.effect("each one-time key is claimed once, the oldest first, then the fallback key", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("claim-alice")
      const bob = yield* registerDevice("claim-bob")
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
      // A repeated upload, whose first answer may be lost, does not offer claimed keys again.
      yield* upload(alice, keys)
      assert.strictEqual(yield* claim(bob, alice), "signed_curve25519:f")
      assert.strictEqual(yield* claim(bob, alice), "signed_curve25519:f")
      const { device_one_time_keys_count, device_unused_fallback_key_types } = yield* sync(alice)
      assert.deepStrictEqual([device_one_time_keys_count, device_unused_fallback_key_types], [
        { signed_curve25519: 0 },
        []
      ] as never)
      yield* upload(alice, { fallback_keys: { "signed_curve25519:g": { key: "g", fallback: true } } })
      assert.deepStrictEqual((yield* sync(alice)).device_unused_fallback_key_types, ["signed_curve25519"])
      assert.strictEqual(yield* claim(bob, alice), "signed_curve25519:g")
    })
  )

  it.effect("a device has one fallback key of an algorithm", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("fallback-alice")
      const key = (name: string) => ({ [`signed_curve25519:${name}`]: { key: name, fallback: true } })
      const two = yield* as(alice)("POST", "/v3/keys/upload", { fallback_keys: { ...key("a"), ...key("b") } })
      assert.deepStrictEqual([two.status, two.body.errcode], [400, "M_INVALID_PARAM"])
    })
  )

  it.effect("changes of devices, joins and leaves are in the device lists of users who share a room", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("list-alice")
      const bob = yield* registerDevice("list-bob")
      const carol = yield* registerDevice("list-carol")
      yield* upload(carol, { device_keys: deviceKeys(carol) })
      const room = yield* roomWith(alice, [bob])
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
      yield* joinRoom(carol, room)
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
      // The answer is the same when the log has many transactions since the token.
      const parts = [nothing.next_batch, joined.next_batch]
      const lists = Effect.forEach(parts, (since) => Effect.map(sync(alice, since), (answer) => answer.device_lists))
      const recent = yield* lists
      yield* SqlClient.SqlClient.use(
        (sql) => sql`
          DO $$ BEGIN FOR transaction IN 1..1001 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$`
      )
      yield* upload(carol, { device_keys: deviceKeys(carol, "three") })
      assert.deepStrictEqual(yield* lists, recent)
      // Alice left and joined again between two syncs, and has missed changes meanwhile.
      const before = (yield* sync(alice, left.next_batch)).next_batch
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      assert.strictEqual((yield* joinRoom(alice, room)).status, 200)
      const returned = yield* sync(alice, before)
      assert.deepStrictEqual(returned.device_lists, { changed: [bob.id], left: [] })
    })
  )

  it.effect("a user who is in no room gets the changes of their own devices", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("alone-alice")
      const since = (yield* sync(alice)).next_batch
      const second = yield* openDevice("alone-alice")
      yield* upload(second, { device_keys: deviceKeys(second) })
      assert.deepStrictEqual(yield* listsSince(alice, since), { changed: [alice.id], left: [] })
    })
  )

  it.effect("members with many or large changes of their profiles count as changed", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("movers-alice")
      const [bob, carol, dan] = [
        yield* registerDevice("movers-bob"),
        yield* registerDevice("movers-carol"),
        yield* registerDevice("movers-dan")
      ]
      const room = yield* roomWith(alice, [bob, carol, dan])
      const { next_batch: since } = yield* sync(alice)
      const change = (user: Device, more: object) =>
        putState(user, room, "m.room.member", { membership: "join", ...more }, user.id)
      yield* change(bob, { reason: "b".repeat(60_000) })
      for (let index = 0; index < 20; index++) yield* change(carol, { displayname: `Carol ${index}` })
      yield* change(dan, { displayname: "Dan" })
      const { device_lists } = yield* sync(alice, since)
      assert.sameMembers(device_lists!.changed as string[], [bob.id, carol.id])
      assert.deepStrictEqual(device_lists!.left, [])
    })
  )

  it.effect("an invited user is in the changed device lists, and not in the left ones when the invitation ends", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("list-host")
      const bob = yield* registerDevice("list-guest")
      const room = yield* roomWith(alice)
      const start = (yield* sync(alice)).next_batch
      yield* as(alice)("POST", `/v3/rooms/${inPath(room)}/invite`, { user_id: bob.id })
      const invited = yield* sync(alice, start)
      assert.deepStrictEqual(invited.device_lists, { changed: [bob.id], left: [] })
      yield* as(bob)("POST", `/v3/rooms/${inPath(room)}/leave`, {})
      const ended = yield* sync(alice, invited.next_batch)
      assert.deepStrictEqual(ended.device_lists, { changed: [], left: [] })
    })
  )

  it.effect("claimed keys, large keys and signatures about other users are bounded", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("pile-alice")
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
        ["M_USER_LIMIT_EXCEEDED"]
      )
    })
  )
})
