import { assert, describe, it } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import {
  encodeBase64,
  exportVerifyKey,
  generateSigningKey,
  type SigningKey,
  signJson,
  verifyKeyOf
} from "@greenroom/room/Signing"
import * as Database from "@greenroom/store/Database"
import { RemoteKeyStore } from "@greenroom/store/RemoteKeyStore"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Clock, Effect, Layer, type Redacted, Result } from "effect"
import { TestClock } from "effect/testing"
import { FederationConfig } from "../../src/federation/FederationConfig.ts"
import { FederationTransport } from "../../src/federation/FederationTransport.ts"
import { type KeyNeed, RemoteKeys } from "../../src/federation/RemoteKeys.ts"
import { ServerDiscovery } from "../../src/federation/ServerDiscovery.ts"
import { HomeServerConfig } from "../../src/runtime/HomeServerConfig.ts"
import { tlsServer } from "./support/TlsServer.ts"

const ourName = "us.test" as ServerName
const theirName = "example.org" as ServerName
const day = 86_400_000

const first = generateSigningKey(theirName, "ed25519:first")
const second = generateSigningKey(theirName, "ed25519:second")
const text = (key: SigningKey) => encodeBase64(exportVerifyKey(verifyKeyOf(key)))

/** What a server may publish, signed by `signer`. */
const keyObject = (change: JsonObject, signer = first): JsonObject =>
  Result.getOrThrow(
    signJson(
      { server_name: theirName, verify_keys: { [first.keyId]: { key: text(first) } }, valid_until_ts: day, ...change },
      signer
    )
  )

const world = Effect.gen(function* () {
  const published: { object: unknown; status: number } = { object: keyObject({}), status: 200 }
  const server = yield* tlsServer(() => ({ body: JSON.stringify(published.object), status: published.status }))
  return { published, server, url: yield* TestDatabase.url }
})

const node = (port: number, url: Redacted.Redacted) =>
  Layer.build(
    RemoteKeys.layer.pipe(
      Layer.provideMerge(FederationTransport.layer),
      Layer.provide(ServerDiscovery.layer),
      Layer.provideMerge(Layer.mergeAll(RemoteKeyStore.layer, SigningKeys.layer(ourName))),
      Layer.provide([
        Layer.succeed(FederationConfig, {
          verifyCertificates: false,
          staticServers: { [theirName]: `127.0.0.1:${port}` }
        }),
        Layer.succeed(HomeServerConfig, { serverName: ourName, dataDir: "unused" })
      ]),
      Layer.provide(Database.pool({ url, maxConnections: 2 }))
    )
  ).pipe(
    Effect.map((context) => ({
      keys: Effect.runSync(Effect.provide(RemoteKeys, context)),
      ours: Effect.runSync(Effect.provide(SigningKeys, context))
    }))
  )

const need = (key: SigningKey, signedAt?: number): KeyNeed => ({
  keyIds: new Set([key.keyId]),
  ...(signedAt === undefined ? {} : { signedAt })
})

const has = (keys: RemoteKeys["Service"], each: KeyNeed, server = theirName) =>
  Effect.map(keys.find(server, [each]), (ring) => ring.choose(each).size > 0)

describe("RemoteKeys", () => {
  it.effect("a server is asked once for its keys, by all who want them, and not again after a restart", () =>
    Effect.gen(function* () {
      const { server, url } = yield* world
      const { keys } = yield* node(server.port, url)
      const found = yield* Effect.all(
        Array.from({ length: 20 }, () => has(keys, need(first))),
        { concurrency: "unbounded" }
      )
      assert.isTrue(found.every((each) => each))
      assert.isTrue(yield* has((yield* node(server.port, url)).keys, need(first)))
      assert.deepStrictEqual(
        server.requests.map(({ method, path }) => `${method} ${path}`),
        ["GET /matrix/key/v1"]
      )
    })
  )

  it.effect("keys are asked for again when they expire, and believed for a week at most", () =>
    Effect.gen(function* () {
      const { published, server, url } = yield* world
      const { keys } = yield* node(server.port, url)
      published.object = keyObject({ valid_until_ts: 1_000 * day })
      assert.isTrue(yield* has(keys, need(first)))
      yield* TestClock.adjust("6 days")
      assert.isTrue(yield* has(keys, need(first)))
      assert.strictEqual(server.requests.length, 1)
      yield* TestClock.adjust("2 days")
      published.status = 500
      assert.isFalse(yield* has(keys, need(first)))
      published.status = 200
      yield* TestClock.adjust("3 minutes")
      assert.isTrue(yield* has(keys, need(first)))
      assert.strictEqual(server.requests.length, 3)
    })
  )

  it.effect("nobody makes us ask a server more often than every two minutes, whether it answers or not", () =>
    Effect.gen(function* () {
      const { published, server, url } = yield* world
      const { keys } = yield* node(server.port, url)
      published.object = keyObject({ valid_until_ts: 1 })
      for (let i = 0; i < 5; i++) assert.isFalse(yield* has(keys, need(second)))
      assert.strictEqual(server.requests.length, 1)
      published.status = 404
      yield* TestClock.adjust("2 minutes")
      for (let i = 0; i < 5; i++) assert.isFalse(yield* has(keys, need(second)))
      assert.strictEqual(server.requests.length, 2)
      yield* server.close
      const ring = yield* keys.find("127.0.0.1:1" as ServerName, [need(first)])
      assert.strictEqual(ring.problem?._tag, "RemoteUnreachable")
    })
  )

  it.effect("a replaced key is good for what was signed before it was, and signs no requests", () =>
    Effect.gen(function* () {
      const { published, server, url } = yield* world
      const { keys } = yield* node(server.port, url)
      yield* TestClock.adjust("1 hour")
      const now = yield* Clock.currentTimeMillis
      published.object = keyObject(
        {
          verify_keys: { [second.keyId]: text(second) },
          old_verify_keys: { [first.keyId]: { key: text(first), expired_ts: now - 1_000 } }
        },
        second
      )
      assert.isTrue(yield* has(keys, need(second)))
      assert.isTrue(yield* has(keys, need(second, now)))
      assert.isFalse(yield* has(keys, need(first)))
      assert.isTrue(yield* has(keys, need(first, now - 2_000)))
      assert.isFalse(yield* has(keys, need(first, now)))
    })
  )

  it.effect("what is not signed by its own key, expired, of another server or no key object is not believed", () =>
    Effect.gen(function* () {
      const { published, server, url } = yield* world
      const { keys } = yield* node(server.port, url)
      yield* TestClock.adjust("1 hour")
      const { signatures: _, ...unsigned } = keyObject({})
      const wrong: ReadonlyArray<unknown> = [
        unsigned,
        keyObject({}, second),
        keyObject({}, generateSigningKey(theirName, first.keyId)),
        { ...keyObject({}), valid_until_ts: 2 * day },
        keyObject({ valid_until_ts: 1 }),
        keyObject({ server_name: "other.org" }),
        keyObject({ verify_keys: {} }),
        keyObject({ verify_keys: { [first.keyId]: { key: "AAAA" } } }),
        [],
        "keys"
      ]
      for (const object of wrong) {
        published.object = object
        assert.isFalse(yield* has(keys, need(first)), JSON.stringify(object))
        yield* TestClock.adjust("2 minutes")
      }
      assert.strictEqual(server.requests.length, wrong.length)
      published.object = keyObject({})
      assert.isTrue(yield* has(keys, need(first)))
    })
  )

  it.effect("our own keys are known without asking, replaced ones too", () =>
    Effect.gen(function* () {
      const { server, url } = yield* world
      const { keys, ours } = yield* node(server.port, url)
      const old = yield* ours.current
      yield* ours.rotate
      assert.isTrue(yield* has(keys, need(old, 0), ourName))
      assert.strictEqual(server.requests.length, 0)
    })
  )
})
