import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, gateway, logIn, passwordOf, roomWith, type TestUser } from "../TestGateway.ts"
import {
  crossSigningKeys,
  deviceKeys,
  listsSince,
  openDevice,
  query,
  registerDevice,
  signingDevice,
  sync,
  upload
} from "./DeviceClient.ts"

type Keys = Record<string, Record<string, unknown>>

const queryKeys = (user: TestUser, ...users: ReadonlyArray<TestUser>) =>
  Effect.map(
    as(user)("POST", "/v3/keys/query", { device_keys: Object.fromEntries(users.map(({ id }) => [id, []])) }),
    ({ body }) => body as unknown as Record<"master_keys" | "self_signing_keys" | "user_signing_keys", Keys>
  )

layer(gateway, { excludeTestServices: true })("cross-signing", (it) => {
  it.effect("keys are uploaded without and replaced with the password, and their signatures are checked", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("cross-alice")
      const bob = yield* registerDevice("cross-bob")
      yield* upload(alice, { device_keys: deviceKeys(alice) })
      const keys = crossSigningKeys(alice)
      const forged = { ...keys.upload, self_signing_key: { ...keys.upload.self_signing_key, signatures: {} } }
      const setUp = "/v3/keys/device_signing/upload"
      assert.strictEqual((yield* as(alice)("POST", setUp, forged)).body.errcode, "M_INVALID_SIGNATURE")
      const misused = { ...keys.upload, master_key: { ...keys.upload.master_key, usage: ["self_signing"] } }
      assert.strictEqual((yield* as(alice)("POST", setUp, misused)).body.errcode, "M_INVALID_PARAM")
      const { master_key: _, ...withoutMaster } = keys.upload
      assert.strictEqual((yield* as(alice)("POST", setUp, withoutMaster)).body.errcode, "M_MISSING_PARAM")
      assert.strictEqual((yield* as(alice)("POST", setUp, keys.upload)).text, "{}")
      assert.strictEqual((yield* as(alice)("POST", setUp, keys.upload)).text, "{}")
      const named = yield* logIn("cross-alice", undefined, { device_id: keys.master.publicKey })
      assert.deepStrictEqual([named.status, named.body.errcode], [403, "M_FORBIDDEN"], "no device is named like a key")
      const ofBob = crossSigningKeys(bob)
      yield* as(bob)("POST", setUp, ofBob.upload)

      const seen = yield* queryKeys(bob, alice, bob)
      assert.deepStrictEqual<unknown>(seen.master_keys, {
        [alice.id]: keys.upload.master_key,
        [bob.id]: ofBob.upload.master_key
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
      const { errcode } = (failures as Record<string, Record<string, { errcode: string }>>)[alice.id]![alice.device]!
      assert.strictEqual(errcode, "M_INVALID_SIGNATURE")
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
        Effect.map(queryKeys(user, alice), ({ master_keys }) => Object.keys(master_keys[alice.id]!.signatures ?? {}))
      assert.deepStrictEqual(yield* signersFor(bob), [bob.id])
      assert.deepStrictEqual(yield* signersFor(alice), [])

      const { keyId, publicKey } = crossSigningKeys(bob).userSigning
      const ofOther = ofBob.master.sign({ user_id: bob.id, usage: ["user_signing"], keys: { [keyId]: publicKey } })
      const authOfBob = { auth: passwordOf("cross-bob") }
      assert.strictEqual((yield* as(bob)("POST", setUp, { user_signing_key: ofOther, ...authOfBob })).text, "{}")
      assert.deepStrictEqual(yield* signersFor(bob), [], "a signature ends with the key that made it")
      const again = { user_signing_key: ofBob.upload.user_signing_key, ...authOfBob }
      assert.strictEqual((yield* as(bob)("POST", setUp, again)).text, "{}")
      yield* uploadSignatures(bob, { [alice.id]: { [keys.master.publicKey]: signedMaster } })
      assert.deepStrictEqual(yield* signersFor(bob), [bob.id])

      const replacement = crossSigningKeys(alice)
      const asked = yield* as(alice)("POST", setUp, replacement.upload)
      assert.strictEqual(asked.status, 401)
      const auth = { ...passwordOf("cross-alice"), session: asked.body.session }
      assert.strictEqual((yield* as(alice)("POST", setUp, { ...replacement.upload, auth })).text, "{}")
      assert.deepStrictEqual(yield* signersFor(bob), [])
    })
  )

  it.effect("a key that a device is named like is refused, whether or not the device has keys", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("cross-named")
      const { master, upload } = crossSigningKeys(alice)
      assert.strictEqual((yield* logIn("cross-named", undefined, { device_id: master.publicKey })).status, 200)
      const { body, status } = yield* as(alice)("POST", "/v3/keys/device_signing/upload", upload)
      assert.deepStrictEqual([status, body.errcode], [403, "M_FORBIDDEN"])
    })
  )

  it.effect("a master key is signed as it is stored, and only if the user has one", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("master-alice")
      const bob = yield* registerDevice("master-bob")
      const device = signingDevice(alice)
      yield* upload(alice, { device_keys: device.keys })
      const keys = crossSigningKeys(alice)
      const ofBob = crossSigningKeys(bob)
      yield* as(bob)("POST", "/v3/keys/device_signing/upload", ofBob.upload)
      const failed = (user: TestUser, signed: object) =>
        Effect.map(
          as(user)("POST", "/v3/keys/signatures/upload", { [alice.id]: { [keys.master.publicKey]: signed } }),
          ({ body }) => Object.keys(body.failures as object)
        )
      const byBob = ofBob.userSigning.sign(keys.upload.master_key)
      assert.deepStrictEqual(yield* failed(bob, byBob), [alice.id], "there is no such key yet")
      yield* as(alice)("POST", "/v3/keys/device_signing/upload", keys.upload)
      assert.deepStrictEqual(yield* failed(bob, byBob), [])
      const altered = { ...keys.upload.master_key, usage: ["master", "other"] }
      assert.deepStrictEqual(yield* failed(alice, device.sign(altered)), [alice.id])
      assert.deepStrictEqual(yield* failed(bob, ofBob.userSigning.sign(altered)), [alice.id])
      assert.deepStrictEqual(yield* failed(alice, device.sign(keys.upload.master_key)), [])
    })
  )

  it.effect("a new user-signing key is announced to the devices of its user alone", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("own-alice")
      const bob = yield* registerDevice("own-bob")
      yield* roomWith(alice, [bob])
      const keys = crossSigningKeys(alice)
      const setUp = (upload: object) =>
        as(alice)("POST", "/v3/keys/device_signing/upload", { ...upload, auth: passwordOf("own-alice") })
      assert.strictEqual((yield* setUp(keys.upload)).status, 200)
      const phone = yield* openDevice("own-alice")
      const changed = (user: TestUser, since: string) =>
        Effect.map(listsSince(user, since), (device_lists) => device_lists?.changed)
      const [ofAlice, ofBob] = [(yield* sync(phone)).next_batch, (yield* sync(bob)).next_batch]

      const { keyId, publicKey } = crossSigningKeys(alice).userSigning
      const newKey = keys.master.sign({ user_id: alice.id, usage: ["user_signing"], keys: { [keyId]: publicKey } })
      assert.strictEqual((yield* setUp({ user_signing_key: newKey })).status, 200)
      assert.deepStrictEqual(yield* changed(phone, ofAlice), [alice.id])
      const { device_lists } = yield* sync(bob, ofBob)
      assert.deepStrictEqual(device_lists?.changed ?? [], [], "Bob cannot see that key")

      assert.strictEqual((yield* setUp(crossSigningKeys(alice).upload)).status, 200)
      assert.deepStrictEqual(yield* changed(bob, ofBob), [alice.id])
      const seen = yield* queryKeys(phone, alice)
      assert.notProperty(seen.master_keys[alice.id], "signatures")
    })
  )

  it.effect("forged signatures are refused, and a valid one is stored", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("forge-alice")
      const mallory = yield* registerDevice("forge-mallory")
      const keys = crossSigningKeys(alice)
      const ofMallory = crossSigningKeys(mallory)
      yield* upload(alice, { device_keys: deviceKeys(alice) })
      const setUp = "/v3/keys/device_signing/upload"
      // The keys of another user, and a key that the master key of another user has signed.
      assert.strictEqual((yield* as(mallory)("POST", setUp, keys.upload)).status, 400)
      const stolen = { ...ofMallory.upload, self_signing_key: keys.upload.self_signing_key }
      assert.strictEqual((yield* as(mallory)("POST", setUp, stolen)).status, 400)
      assert.strictEqual((yield* as(alice)("POST", setUp, keys.upload)).status, 200)
      assert.strictEqual((yield* as(mallory)("POST", setUp, ofMallory.upload)).status, 200)
      const { signatures: _, ...bare } = deviceKeys(alice)
      // A signature in the name of Alice with a key of Mallory.
      const impersonated = {
        ...bare,
        signatures: { [alice.id]: { [ofMallory.selfSigning.keyId]: "c2lnbmVk" } }
      }
      const good = keys.selfSigning.sign(bare)
      const signatures = (user: TestUser, signed: object) =>
        as(user)("POST", "/v3/keys/signatures/upload", { [alice.id]: { [alice.device]: signed } })
      const altered = { ...good, algorithms: ["none"] }
      for (const [user, signed] of [
        [mallory, impersonated],
        [mallory, good],
        [alice, impersonated],
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

  it.effect("master keys are those of their user, signed by the keys that the signatures name, and no others", () =>
    Effect.gen(function* () {
      const alice = yield* registerDevice("named-alice")
      const mallory = yield* registerDevice("named-mallory")
      const device = signingDevice(alice)
      yield* upload(alice, { device_keys: device.keys })
      const keys = crossSigningKeys(alice)
      const ofMallory = crossSigningKeys(mallory)
      const setUp = "/v3/keys/device_signing/upload"
      const { body } = yield* as(mallory)("POST", setUp, { master_key: keys.upload.master_key })
      assert.strictEqual(body.errcode, "M_INVALID_PARAM")
      const renamed = { ...keys.upload.master_key, keys: { "ed25519:other": keys.master.publicKey } }
      const underOther = yield* as(alice)("POST", setUp, { master_key: renamed })
      assert.strictEqual(underOther.body.errcode, "M_INVALID_PARAM", "a key has its own name")
      for (const usage of ["self_signing_key", "user_signing_key"] as const) {
        const forged = { [alice.id]: { [keys.master.keyId]: "A".repeat(86) } }
        const upload = { ...keys.upload, [usage]: { ...keys.upload[usage], signatures: forged } }
        assert.strictEqual((yield* as(alice)("POST", setUp, upload)).body.errcode, "M_INVALID_SIGNATURE", usage)
      }
      assert.strictEqual((yield* as(alice)("POST", setUp, keys.upload)).status, 200)
      assert.strictEqual((yield* as(mallory)("POST", setUp, ofMallory.upload)).status, 200)
      const failed = (user: TestUser, keyId: string, signed: object) =>
        Effect.map(as(user)("POST", "/v3/keys/signatures/upload", { [alice.id]: { [keyId]: signed } }), ({ body }) =>
          Object.keys(body.failures as object)
        )
      const forgedBy = (user: TestUser, signer: string) => ({
        ...keys.upload.master_key,
        signatures: { [user.id]: { [signer]: "A".repeat(86) } }
      })
      const master = keys.master.publicKey
      assert.deepStrictEqual(yield* failed(alice, master, forgedBy(alice, `ed25519:${alice.device}`)), [alice.id])
      assert.deepStrictEqual(yield* failed(mallory, master, forgedBy(mallory, ofMallory.userSigning.keyId)), [alice.id])
      const { signatures: _, ...bare } = device.keys
      const signed = keys.selfSigning.sign(bare)
      const more = { ...signed, signatures: { ...signed.signatures, [mallory.id]: { "ed25519:other": "signed" } } }
      assert.deepStrictEqual(yield* failed(alice, alice.device, more), [])
      const other = keys.selfSigning.sign({ ...bare, algorithms: ["other"] })
      assert.deepStrictEqual(yield* failed(alice, alice.device, other), [alice.id], "the keys of the device differ")
      yield* upload(alice, { device_keys: device.keys })
      const seen = (yield* query(mallory, alice))[alice.id]![alice.device]!
      assert.deepStrictEqual(Object.keys(seen.signatures as object), [alice.id])
      const ofAlice = (seen.signatures as Record<string, object>)[alice.id]!
      assert.property(ofAlice, keys.selfSigning.keyId, "a repeated upload of the keys keeps their signatures")
    })
  )
})
