import { assert, layer } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { generateSigningKey, verifyKeyOf } from "@greenroom/room/Signing"
import { Effect, Layer } from "effect"
import { TestClock } from "effect/testing"
import { RemoteKeyStore } from "../src/RemoteKeyStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const serverName = "evil.test" as ServerName

let count = 0

const newKeys = (number: number) =>
  Array.from({ length: number }, () => {
    const { keyId, ...key } = generateSigningKey(serverName, `ed25519:k${++count}`)
    return { keyId, publicKey: verifyKeyOf({ keyId, ...key }), validUntil: 1, expiredAt: undefined }
  })

layer(RemoteKeyStore.layer.pipe(Layer.provide(TestDatabase.layer)))("RemoteKeyStore", (it) => {
  it.effect(
    "of a server that publishes new keys all the time the newest are kept, and those before the vouched ones",
    () =>
      Effect.gen(function* () {
        const store = yield* RemoteKeyStore
        const put = (keys: ReturnType<typeof newKeys>, voucher?: ServerName) =>
          Effect.andThen(
            TestClock.adjust("1 second"),
            store.put(serverName, { keys, object: {}, validUntil: 1, ...(voucher === undefined ? {} : { voucher }) })
          )
        const has = Effect.map(store.find(serverName), (found) => new Set(found.map(({ keyId }) => keyId)))
        const [first, second, vouched] = [newKeys(400), newKeys(400), newKeys(400)]
        yield* put(first)
        yield* put(vouched, "voucher.test" as ServerName)
        yield* put(second)
        const before = yield* has
        assert.strictEqual(before.size, 1_000)
        assert.isTrue([...first, ...second].every(({ keyId }) => before.has(keyId)))
        const newest = newKeys(400)
        yield* put(newest)
        const after = yield* has
        assert.strictEqual(after.size, 1_000)
        assert.isTrue([...second, ...newest].every(({ keyId }) => after.has(keyId)))
        assert.isFalse(vouched.some(({ keyId }) => after.has(keyId)))
      })
  )

  it.effect("large key objects of some servers do not keep those of others out of an answer", () =>
    Effect.gen(function* () {
      const store = yield* RemoteKeyStore
      const put = (name: ServerName, padding: string) =>
        store.put(name, { keys: newKeys(1), object: { name, padding }, validUntil: 1 })
      const names = ["large1.test", "small.test", "large2.test"].map((name) => name as ServerName)
      for (const name of names) yield* put(name, "x".repeat(name.startsWith("large") ? 60_000 : 10))
      yield* put(names[1]!, "newest")
      const found = (maxBytes: number) =>
        Effect.map(store.objects(names, maxBytes), (objects) => objects.map(({ object }) => object.padding))
      assert.deepStrictEqual(yield* found(100_000), ["newest", "x".repeat(10), "x".repeat(60_000)])
      assert.lengthOf(yield* found(1_000_000), 4)
    })
  )
})
