import { assert, layer } from "@effect/vitest"
import { Effect } from "effect"
import { as, gateway, type TestUser } from "../TestGateway.ts"
import { crossSigningKeys, deviceKeys, listsSince, logIn, person, query, roomOf, sync, upload } from "./DeviceClient.ts"

type Keys = Record<string, Record<string, unknown>>

const queryAll = (user: TestUser, ...users: ReadonlyArray<TestUser>) =>
  Effect.map(
    as(user)("POST", "/v3/keys/query", { device_keys: Object.fromEntries(users.map(({ id }) => [id, []])) }),
    ({ body }) => body as unknown as Record<"master_keys" | "self_signing_keys" | "user_signing_keys", Keys>
  )

layer(gateway, { excludeTestServices: true })("cross-signing", (it) => {
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
        Effect.map(queryAll(user, alice), ({ master_keys }) => Object.keys(master_keys[alice.id]!.signatures ?? {}))
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

  it.effect("a new user-signing key is announced to the devices of its user alone", () =>
    Effect.gen(function* () {
      const alice = yield* person("own-alice")
      const bob = yield* person("own-bob")
      yield* roomOf(alice, bob)
      const keys = crossSigningKeys(alice)
      const setUp = (upload: object) => {
        const identifier = { type: "m.id.user", user: "own-alice" }
        const auth = { type: "m.login.password", identifier, password: "secret-own-alice" }
        return as(alice)("POST", "/v3/keys/device_signing/upload", { ...upload, auth })
      }
      assert.strictEqual((yield* setUp(keys.upload)).status, 200)
      const phone = yield* logIn("own-alice")
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
      const seen = yield* queryAll(phone, alice)
      assert.notProperty(seen.master_keys[alice.id], "signatures")
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
