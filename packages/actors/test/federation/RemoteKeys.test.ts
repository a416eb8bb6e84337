import { setImmediate } from "node:timers/promises"
import { assert, describe, it } from "@effect/vitest"
import { keyPath, keyQueryPath } from "@greenroom/protocol/federation/KeyApi"
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
import { Clock, Effect, Fiber, Layer, type Redacted, Result } from "effect"
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

/** A key object that a server may publish, signed by `signer`. */
const keyObject = (change: JsonObject, signer = first): JsonObject =>
  Result.getOrThrow(
    signJson(
      { server_name: theirName, verify_keys: { [first.keyId]: { key: text(first) } }, valid_until_ts: day, ...change },
      signer
    )
  )

const world = Effect.gen(function* () {
  const published: { object: unknown; status: number; draftOnly: boolean } = {
    object: keyObject({}),
    status: 200,
    draftOnly: false
  }
  const server = yield* tlsServer(({ path }) =>
    published.draftOnly && path !== keyPath
      ? { status: 404, body: "{}" }
      : { body: JSON.stringify(published.object), status: published.status }
  )
  return { published, server, url: yield* TestDatabase.url }
})

const node = (
  port: number,
  url: Redacted.Redacted,
  notary?: { readonly name: ServerName; readonly port: number },
  others: { readonly [name: string]: string } = {},
  keyNotaries: ReadonlyArray<ServerName> = []
) =>
  Layer.build(
    RemoteKeys.layer.pipe(
      Layer.provideMerge(FederationTransport.layer),
      Layer.provide(ServerDiscovery.layer),
      Layer.provideMerge(Layer.mergeAll(RemoteKeyStore.layer, SigningKeys.layer(ourName))),
      Layer.provide([
        Layer.succeed(FederationConfig, {
          verifyCertificates: false,
          keyNotaries,
          staticServers: {
            ...others,
            [theirName]: `127.0.0.1:${port}`,
            ...(notary === undefined ? {} : { [notary.name]: `127.0.0.1:${notary.port}` })
          }
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

/** Whether a request that was signed by the key now is good: one that tells of rooms, or any. */
const has = (keys: RemoteKeys["Service"], keyNeed: KeyNeed, server = theirName, acceptsVouched = true) =>
  Effect.map(keys.find(server, [keyNeed], acceptsVouched), (ring) => ring.choose(keyNeed).size > 0)

/** Whether a PDU is good, in a room for which these servers vouch. */
const hasFor = (
  keys: RemoteKeys["Service"],
  keyNeed: KeyNeed,
  vouchers: ReadonlyArray<ServerName>,
  server = theirName
) =>
  Effect.map(
    keys.findAll(new Map([[server, [keyNeed]]]), Effect.succeed(vouchers)),
    (rings) => rings.get(server)!.choose(keyNeed).size > 0
  )

const fetched = (server: { readonly requests: ReadonlyArray<{ readonly method: string; readonly path: string }> }) =>
  server.requests.map(({ method, path }) => `${method} ${path}`)

describe("RemoteKeys", () => {
  it.effect("concurrent readers of a server's keys share one request, and none follows a restart", () =>
    Effect.gen(function* () {
      const { server, url } = yield* world
      const { keys } = yield* node(server.port, url)
      const found = yield* Effect.all(
        Array.from({ length: 20 }, () => has(keys, need(first))),
        { concurrency: "unbounded" }
      )
      assert.isTrue(found.every((entry) => entry))
      assert.isTrue(yield* has((yield* node(server.port, url)).keys, need(first)))
      assert.deepStrictEqual(fetched(server), ["GET /_matrix/key/v2/server"])
    })
  )

  it.effect("a server that speaks the draft alone is asked where the draft has its keys", () =>
    Effect.gen(function* () {
      const { published, server, url } = yield* world
      published.draftOnly = true
      const { keys } = yield* node(server.port, url)
      assert.isTrue(yield* has(keys, need(first)))
      yield* TestClock.adjust("1 minute")
      assert.isFalse(yield* has(keys, need(second)))
      assert.deepStrictEqual(fetched(server), [
        "GET /_matrix/key/v2/server",
        "GET /matrix/key/v1",
        "GET /matrix/key/v1"
      ])
    })
  )

  it.effect("a server that refuses to give its keys is not asked for them at the draft's path", () =>
    Effect.gen(function* () {
      const { published, server, url } = yield* world
      Object.assign(published, { status: 400, object: {} })
      const { keys } = yield* node(server.port, url)
      assert.isFalse(yield* has(keys, need(first)))
      assert.deepStrictEqual(fetched(server), ["GET /_matrix/key/v2/server"])
    })
  )

  it.effect("keys are fetched again when they expire, and trusted for a week at most", () =>
    Effect.gen(function* () {
      const { published, server, url } = yield* world
      const { keys } = yield* node(server.port, url)
      published.object = keyObject({ valid_until_ts: 1_000 * day })
      assert.isTrue(yield* has(keys, need(first)))
      yield* TestClock.adjust("6 days")
      assert.isTrue(yield* has(keys, need(first)))
      assert.strictEqual(server.requests.length, 1)
      yield* TestClock.adjust("2 days")
      published.object = keyObject({ valid_until_ts: 1 })
      assert.isFalse(yield* has(keys, need(first)))
      published.object = keyObject({ valid_until_ts: 1_000 * day })
      yield* TestClock.adjust("3 minutes")
      assert.isTrue(yield* has(keys, need(first)))
      assert.strictEqual(server.requests.length, 3)
    })
  )

  it.effect("a new key is found at once", () =>
    Effect.gen(function* () {
      const { published, server, url } = yield* world
      const { keys } = yield* node(server.port, url)
      assert.isTrue(yield* has(keys, need(first)))
      published.object = keyObject(
        {
          verify_keys: { [second.keyId]: text(second) },
          old_verify_keys: { [first.keyId]: { key: text(first), expired_ts: 1_000 } }
        },
        second
      )
      yield* TestClock.adjust("1 second")
      assert.isTrue(yield* has(keys, need(second)))
    })
  )

  it.effect(
    "fruitless requests are repeated less and less often, for a server that makes requests every few seconds",
    () =>
      Effect.gen(function* () {
        const { published, server, url } = yield* world
        published.object = keyObject({ valid_until_ts: -1 })
        const { keys } = yield* node(server.port, url)
        // Others sent PDUs of the server, every second for an hour.
        for (let count = 0; count < 3_600; count++) {
          assert.isFalse(yield* hasFor(keys, need(second, 0), []))
          yield* TestClock.adjust("1 second")
        }
        assert.isAbove(server.requests.length, 30)
        assert.isBelow(server.requests.length, 45)
        // It makes requests itself, for a minute.
        const before = server.requests.length
        for (let count = 0; count < 60; count++) {
          assert.isFalse(yield* has(keys, need(second)))
          yield* TestClock.adjust("1 second")
        }
        assert.isAtMost(server.requests.length - before, 13)
        assert.isAtLeast(server.requests.length - before, 11)
      })
  )

  /** The keys of a server that answered before, which have expired, and many names of a server that never answers. */
  const silence = Effect.gen(function* () {
    const { published, server, url } = yield* world
    const silent = yield* tlsServer(() => undefined)
    const names = Array.from({ length: 200 }, (_, number) => `silent${number}.test` as ServerName)
    const others = Object.fromEntries(names.map((name) => [name, `127.0.0.1:${silent.port}`]))
    const { keys } = yield* node(server.port, url, undefined, others)
    assert.isTrue(yield* has(keys, need(first)))
    yield* TestClock.adjust("2 days")
    published.object = keyObject({ valid_until_ts: 7 * day })
    const atLeast = (requests: ReadonlyArray<unknown>, count: number) =>
      Effect.repeat(
        Effect.promise(() => setImmediate()),
        { until: () => requests.length >= count }
      )
    return { keys, names, server, silentAsked: (count: number) => atLeast(silent.requests, count), atLeast }
  })

  it.effect("requests in the names of many silent servers do not hold up one of a server that answered before", () =>
    Effect.gen(function* () {
      const { keys, names, silentAsked } = yield* silence
      yield* Effect.forEach(names, (name) => Effect.forkChild(has(keys, need(first), name)))
      yield* silentAsked(64)
      assert.isTrue(yield* has(keys, need(first)))
    })
  )

  it.effect("a server that was never asked waits for one turn of those of requests of another address", () =>
    Effect.gen(function* () {
      const { server, url } = yield* world
      const silent = yield* tlsServer(() => undefined)
      const names = Array.from({ length: 400 }, (_, number) => `silent${number}.test` as ServerName)
      const others = Object.fromEntries(names.map((name) => [name, `127.0.0.1:${silent.port}`]))
      const { keys } = yield* node(server.port, url, undefined, others)
      const find = (name: ServerName, address: string) =>
        Effect.forkChild(keys.find(name, [need(first)], true, address))
      yield* Effect.forEach(names, (name) => find(name, "192.0.2.1"))
      yield* Effect.repeat(
        Effect.promise(() => setImmediate()),
        { until: () => silent.requests.length >= 64 }
      )
      const finding = yield* find(theirName, "192.0.2.2")
      while (finding.pollUnsafe() === undefined) {
        for (let turn = 0; turn < 100; turn++) yield* Effect.promise(() => setImmediate())
        yield* TestClock.adjust("10 seconds")
      }
      assert.strictEqual((yield* Fiber.join(finding)).choose(need(first)).size, 1)
      assert.isBelow(silent.requests.length, 300)
    })
  )

  it.effect("PDUs of many silent servers do not hold up those of a server that answered before", () =>
    Effect.gen(function* () {
      const { keys, names, silentAsked } = yield* silence
      const needs = [need(first, 0)]
      for (const from of [0, 50, 100, 150]) {
        const list = new Map(names.slice(from, from + 50).map((name) => [name, needs] as const))
        yield* Effect.forkChild(keys.findAll(list, Effect.succeed([])))
      }
      yield* silentAsked(64)
      assert.isTrue(yield* hasFor(keys, need(first, 2 * day), []))
    })
  )

  it.effect("in one list of PDUs, silent servers do not hold up one that answered before", () =>
    Effect.gen(function* () {
      const { atLeast, keys, names, server, silentAsked } = yield* silence
      const list = new Map([
        ...names.map((name) => [name, [need(first, 0)]] as const),
        [theirName, [need(first, 2 * day)]]
      ])
      const finding = yield* Effect.forkChild(keys.findAll(list, Effect.succeed([])))
      yield* silentAsked(32)
      yield* atLeast(server.requests, 2)
      assert.isTrue(yield* hasFor(keys, need(first, 2 * day), []))
      yield* TestClock.adjust("10 seconds")
      const ring = (yield* Fiber.join(finding)).get(theirName)!
      assert.strictEqual(ring.choose(need(first, 2 * day)).size, 1)
    })
  )

  it.effect("a request of a server ends the wait for its keys", () =>
    Effect.gen(function* () {
      const { published, server, url } = yield* world
      const { keys } = yield* node(server.port, url)
      published.status = 500
      for (let count = 0; count < 1_000; count++) {
        yield* hasFor(keys, need(first, 0), [])
        yield* TestClock.adjust("1 second")
      }
      published.status = 200
      assert.isFalse(yield* hasFor(keys, need(first, 0), []))
      assert.isTrue(yield* has(keys, need(first)))
    })
  )

  it.effect("a replaced key verifies earlier signatures, and no requests", () =>
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

  it.effect("a key that its server does not publish any more verifies earlier signatures, and no requests", () =>
    Effect.gen(function* () {
      const { published, server, url } = yield* world
      const { keys } = yield* node(server.port, url)
      yield* TestClock.adjust("1 hour")
      const now = yield* Clock.currentTimeMillis
      assert.isTrue(yield* has(keys, need(first)))
      published.object = keyObject({ verify_keys: { [second.keyId]: text(second) } }, second)
      yield* TestClock.adjust("1 minute")
      assert.isTrue(yield* has(keys, need(second)))
      yield* TestClock.adjust("1 second")
      assert.isFalse(yield* has(keys, need(first)))
      assert.isFalse(yield* hasFor(keys, need(first, now + 120_000), []))
      assert.isTrue(yield* hasFor(keys, need(first, now), []))
    })
  )

  it.effect("an old key has ended by now, whatever its server says, and a key that is current too has not", () =>
    Effect.gen(function* () {
      const { published, server, url } = yield* world
      const { keys } = yield* node(server.port, url)
      yield* TestClock.adjust("1 hour")
      const now = yield* Clock.currentTimeMillis
      published.object = keyObject(
        {
          verify_keys: { [second.keyId]: text(second) },
          old_verify_keys: {
            [first.keyId]: { key: text(first), expired_ts: now + day },
            [second.keyId]: { key: text(second), expired_ts: 1 }
          }
        },
        second
      )
      assert.isTrue(yield* has(keys, need(second)))
      assert.isTrue(yield* has(keys, need(first, now - 1)))
      assert.isFalse(yield* has(keys, need(first, now + 1)))
    })
  )

  it.effect("keys are fetched at most every two minutes, however soon their server lets them expire", () =>
    Effect.gen(function* () {
      const { published, server, url } = yield* world
      const { keys } = yield* node(server.port, url)
      const now = yield* Clock.currentTimeMillis
      published.object = keyObject({ valid_until_ts: now + 1_000 })
      assert.isTrue(yield* has(keys, need(first)))
      yield* TestClock.adjust("110 seconds")
      assert.isTrue(yield* has(keys, need(first)))
      assert.strictEqual(server.requests.length, 1)
    })
  )

  it.effect("keys that their server lets expire verify earlier signatures", () =>
    Effect.gen(function* () {
      const { published, server, url } = yield* world
      const { keys } = yield* node(server.port, url)
      yield* TestClock.adjust("1 hour")
      published.object = keyObject({ valid_until_ts: 60_000 })
      assert.isTrue(yield* hasFor(keys, need(first, 59_000), []))
      assert.isFalse(yield* hasFor(keys, need(first, 61_000), []))
      assert.isFalse(yield* has(keys, need(first)))
    })
  )

  it.effect("refuses key objects that are not signed by their own key, expired, of another server or malformed", () =>
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
      published.object = keyObject({})
      assert.isTrue(yield* has(keys, need(first)))
    })
  )

  it.effect("keys of other algorithms and malformed ones do not invalidate those beside them", () =>
    Effect.gen(function* () {
      const { published, server, url } = yield* world
      const { keys } = yield* node(server.port, url)
      yield* TestClock.adjust("1 hour")
      published.object = keyObject(
        {
          verify_keys: {
            "ml-dsa-44:a": { key: "A".repeat(1_750) },
            "ed25519:short": { key: "AAAA" },
            "ed25519:none": 1,
            [second.keyId]: { key: text(second), comment: "current" }
          },
          old_verify_keys: {
            "ml-dsa-44:b": { key: "A".repeat(1_750), expired_ts: 1_000 },
            "ed25519:endless": { key: text(first) },
            [first.keyId]: { key: text(first), expired_ts: 60_000 }
          }
        },
        second
      )
      assert.isTrue(yield* has(keys, need(second)))
      assert.isTrue(yield* has(keys, need(first, 59_000)))
      assert.isFalse(yield* has(keys, { keyIds: new Set(["ml-dsa-44:a", "ed25519:short", "ed25519:endless"]) }))
    })
  )

  it.effect("of very many old keys those that ended last are read", () =>
    Effect.gen(function* () {
      const { published, server, url } = yield* world
      const { keys } = yield* node(server.port, url)
      yield* TestClock.adjust("1 hour")
      const old = Array.from({ length: 200 }, (_, n) => [`ed25519:old${n}`, { key: text(first), expired_ts: n + 1 }])
      published.object = keyObject({ old_verify_keys: Object.fromEntries(old) })
      assert.isTrue(yield* has(keys, need(first)))
      assert.isTrue(yield* has(keys, { keyIds: new Set(["ed25519:old100"]), signedAt: 100 }))
      assert.isFalse(yield* has(keys, { keyIds: new Set(["ed25519:old99"]), signedAt: 99 }))
    })
  )

  it.effect("a server that stays silent is asked once, and nobody waits for it again at once", () =>
    Effect.gen(function* () {
      const { url } = yield* world
      const silent = yield* tlsServer(() => undefined)
      const { keys } = yield* node(silent.port, url)
      const asking = yield* Effect.forkChild(hasFor(keys, need(first, 0), []))
      while (silent.requests.length === 0) yield* Effect.promise(() => setImmediate())
      yield* TestClock.adjust("10 seconds")
      assert.isFalse(yield* Fiber.join(asking))
      assert.isFalse(yield* hasFor(keys, need(first, 0), []))
      assert.strictEqual(silent.requests.length, 1)
    })
  )

  it.effect(
    "servers that make requests do not wait for those that PDUs name, which are no more asked when nobody waits",
    () =>
      Effect.gen(function* () {
        const { server, url } = yield* world
        const silent = yield* tlsServer(() => undefined)
        const names = Array.from({ length: 300 }, (_, index) => `made-up${index}.test` as ServerName)
        const others = Object.fromEntries(names.map((name) => [name, `127.0.0.1:${silent.port}`]))
        const { keys } = yield* node(server.port, url, undefined, others)
        const needs = new Map(names.map((name) => [name, [need(first, 0)]]))
        const asking = yield* Effect.forkChild(
          Effect.all([keys.findAll(needs, Effect.succeed([])), keys.findAll(needs, Effect.succeed([]))], {
            concurrency: 2
          })
        )
        while (silent.requests.length < 32) yield* Effect.promise(() => setImmediate())
        assert.isTrue(yield* has(keys, need(first)))
        yield* TestClock.adjust("10 seconds")
        yield* Fiber.join(asking)
        yield* TestClock.adjust("10 seconds")
        const before = silent.requests.length
        yield* TestClock.adjust("1 minute")
        assert.isFalse(yield* has(keys, need(second)))
        assert.strictEqual(silent.requests.length, before)
        assert.isAtMost(before, 128)
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

const notaryName = "notary.test" as ServerName
const notaryKey = generateSigningKey(notaryName, "ed25519:notary")

/** The longest query that the notary takes, in bytes. */
const maxQueryBytes = 64 * 1024

/** A notary. It answers queries with the key objects in `vouched`, and requests for its own keys with these. */
const notaryServer = Effect.fnUntraced(function* (key: SigningKey) {
  const vouchedBy = (object: JsonObject, by = key) => Result.getOrThrow(signJson(object, by))
  const vouched: { objects: ReadonlyArray<JsonObject> } = { objects: [vouchedBy(keyObject({}))] }
  const own = Result.getOrThrow(
    signJson(
      { server_name: key.serverName, verify_keys: { [key.keyId]: { key: text(key) } }, valid_until_ts: 30 * day },
      key
    )
  )
  const notary = yield* tlsServer(({ path }, bodyBytes) =>
    bodyBytes > maxQueryBytes
      ? { status: 413, body: "{}" }
      : { body: JSON.stringify(path === keyQueryPath ? { server_keys: vouched.objects } : own) }
  )
  return { notary, vouched, vouchedBy }
})

const withNotary = Effect.gen(function* () {
  const { published, server, url } = yield* world
  const { notary, ...vouching } = yield* notaryServer(notaryKey)
  const { keys, ours } = yield* node(server.port, url, { name: notaryName, port: notary.port })
  return { published, server, notary, ...vouching, keys, ours, url }
})

describe("RemoteKeys of servers that cannot be asked", () => {
  it.effect("the server through which a room was joined vouches for them, in that room alone", () =>
    Effect.gen(function* () {
      const { keys, server } = yield* withNotary
      yield* server.close
      const signed = need(first, 1_000)
      assert.isFalse(yield* hasFor(keys, signed, []))
      assert.isTrue(yield* hasFor(keys, signed, [notaryName]))
      assert.isFalse(yield* hasFor(keys, signed, []))
      assert.isTrue(yield* has(keys, need(first)))
    })
  )

  it.effect("a vouched key verifies events and reads of rooms, and no other request", () =>
    Effect.gen(function* () {
      const { keys, server } = yield* withNotary
      yield* server.close
      assert.isTrue(yield* hasFor(keys, need(first, 1_000), [notaryName]))
      assert.isTrue(yield* has(keys, need(first)))
      assert.isFalse(yield* has(keys, need(first), theirName, false))
    })
  )

  it.effect("refuses an answer that the notary has not signed, or that is about other servers", () =>
    Effect.gen(function* () {
      const { keys, server, vouched, vouchedBy } = yield* withNotary
      yield* server.close
      const stranger = generateSigningKey("stranger.test" as ServerName, notaryKey.keyId)
      const forged = generateSigningKey(notaryName, notaryKey.keyId)
      for (const object of [
        keyObject({}),
        vouchedBy(keyObject({}), stranger),
        vouchedBy(keyObject({}), forged),
        vouchedBy(keyObject({ server_name: "other.org" })),
        vouchedBy(keyObject({}, second)),
        { ...vouchedBy(keyObject({})), valid_until_ts: 2 * day }
      ]) {
        vouched.objects = [object, null as never, "keys" as never]
        assert.isFalse(yield* hasFor(keys, need(first, 1_000), [notaryName]))
        yield* TestClock.adjust("3 minutes")
      }
    })
  )

  it.effect("a server that names thousands of keys does not make a notary refuse the query about others", () =>
    Effect.gen(function* () {
      const { keys, server } = yield* withNotary
      yield* server.close
      const signed = need(first, 1_000)
      const madeUp = { keyIds: new Set(Array.from({ length: 3_000 }, (_, n) => `ed25519:${n}`)), signedAt: 1_000 }
      const needs = new Map([
        [theirName, [signed]],
        ["127.0.0.1:1" as ServerName, [madeUp]]
      ])
      const rings = yield* keys.findAll(needs, Effect.succeed([notaryName]))
      assert.strictEqual(rings.get(theirName)?.choose(signed).size, 1)
    })
  )

  it.effect("the first ten objects about a server are read", () =>
    Effect.gen(function* () {
      const { keys, server, vouched, vouchedBy } = yield* withNotary
      yield* server.close
      const after = (wrong: number) => [...Array<JsonObject>(wrong).fill(keyObject({})), vouchedBy(keyObject({}))]
      vouched.objects = after(10)
      assert.isFalse(yield* hasFor(keys, need(first, 1_000), [notaryName]))
      yield* TestClock.adjust("3 minutes")
      vouched.objects = after(9)
      assert.isTrue(yield* hasFor(keys, need(first, 1_000), [notaryName]))
    })
  )

  it.effect("an expired key verifies signatures from before its end, and of any time in room versions before 5", () =>
    Effect.gen(function* () {
      const { keys, server, vouched, vouchedBy } = yield* withNotary
      yield* server.close
      vouched.objects = [vouchedBy(keyObject({ valid_until_ts: 2 * day }))]
      yield* TestClock.adjust("3 days")
      assert.isTrue(yield* hasFor(keys, need(first, day), [notaryName]))
      const late = need(first, 2.5 * day)
      assert.isFalse(yield* hasFor(keys, late, [notaryName]))
      assert.isTrue(yield* hasFor(keys, { ...late, atAnyTime: true }, [notaryName]))
      assert.isFalse(yield* has(keys, need(first)))
    })
  )

  it.effect("keys from a notary for a server with known keys are refused, except for earlier ones", () =>
    Effect.gen(function* () {
      const { keys, server, vouched, vouchedBy } = yield* withNotary
      yield* TestClock.adjust("1 hour")
      assert.isTrue(yield* has(keys, need(first)))
      yield* server.close
      const lost = keyObject({ verify_keys: { [second.keyId]: { key: text(second) } } }, second)
      vouched.objects = [vouchedBy(lost)]
      const now = yield* Clock.currentTimeMillis
      assert.isTrue(yield* hasFor(keys, need(second, now - 1_000), [notaryName]))
      assert.isFalse(yield* hasFor(keys, need(second, now), [notaryName]))
      assert.isFalse(yield* has(keys, need(second)), "nor does it sign requests")
      yield* TestClock.adjust("10 days")
      assert.isFalse(yield* hasFor(keys, need(second, 5 * day), [notaryName]))
      assert.isFalse(yield* has(keys, need(second)))
    })
  )

  it.effect("the server's own keys replace vouched ones", () =>
    Effect.gen(function* () {
      const { keys, published, server, vouched, vouchedBy } = yield* withNotary
      const forged = generateSigningKey(theirName, first.keyId)
      vouched.objects = [vouchedBy(keyObject({ verify_keys: { [first.keyId]: { key: text(forged) } } }, forged))]
      published.status = 500
      const signed = need(first, 1_000)
      const ringOf = Effect.map(keys.findAll(new Map([[theirName, [signed]]]), Effect.succeed([notaryName])), (rings) =>
        rings.get(theirName)!.choose(signed).get(first.keyId)
      )
      const textOf = (key: Effect.Success<typeof ringOf>) => encodeBase64(exportVerifyKey(key!))
      assert.strictEqual(textOf(yield* ringOf), text(forged))
      published.status = 200
      yield* TestClock.adjust("10 minutes")
      yield* keys.refresh(theirName, new Set())
      assert.strictEqual(textOf(yield* ringOf), text(first))
      // And not the other way round.
      yield* server.close
      yield* TestClock.adjust("10 minutes")
      assert.isFalse(yield* hasFor(keys, need(second, 1_000), [notaryName]))
      assert.strictEqual(textOf(yield* ringOf), text(first))
    })
  )

  it.effect("a request does not wait for a further notary of the operator once one has given the keys", () =>
    Effect.gen(function* () {
      const { server, url } = yield* world
      yield* server.close
      const { notary } = yield* notaryServer(notaryKey)
      const silent = yield* tlsServer(() => undefined)
      const silentName = "silent.test" as ServerName
      const others = { [silentName]: `127.0.0.1:${silent.port}` }
      const at = { name: notaryName, port: notary.port }
      const { keys } = yield* node(server.port, url, at, others, [notaryName, silentName])
      assert.isTrue(yield* has(keys, need(first), theirName, false))
      assert.strictEqual(silent.requests.length, 0)
    })
  )

  it.effect("a voucher of one room cannot replace or end keys for which a notary of the operator vouches", () =>
    Effect.gen(function* () {
      const { server, url } = yield* world
      yield* server.close
      const { notary, vouched } = yield* notaryServer(notaryKey)
      const hostileName = "hostile.test" as ServerName
      const hostile = yield* notaryServer(generateSigningKey(hostileName, "ed25519:hostile"))
      const others = { [hostileName]: `127.0.0.1:${hostile.notary.port}` }
      const at = { name: notaryName, port: notary.port }
      const { keys } = yield* node(server.port, url, at, others, [notaryName])
      const makeUp = (change: JsonObject, signer: SigningKey) => {
        hostile.vouched.objects = [
          hostile.vouchedBy(keyObject({ verify_keys: { [signer.keyId]: text(signer) }, ...change }, signer))
        ]
      }
      // It ends a key, by an object that another key has signed.
      const signed = need(first, 1_000)
      assert.isTrue(yield* hasFor(keys, signed, []))
      makeUp({ old_verify_keys: { [first.keyId]: { key: text(first), expired_ts: 1 } } }, second)
      assert.isTrue(yield* hasFor(keys, need(second, 1_000), [hostileName]))
      assert.isTrue(yield* hasFor(keys, signed, []))
      // It makes up a key of which the notary does not know yet.
      yield* TestClock.adjust("10 minutes")
      const [third, forged] = [
        generateSigningKey(theirName, "ed25519:third"),
        generateSigningKey(theirName, "ed25519:third")
      ]
      makeUp({}, forged)
      assert.isTrue(yield* hasFor(keys, need(third, 1_000), [hostileName]))
      yield* TestClock.adjust("10 minutes")
      vouched.objects = [
        Result.getOrThrow(signJson(keyObject({ verify_keys: { [third.keyId]: text(third) } }, third), notaryKey))
      ]
      const rings = yield* keys.findAll(new Map([[theirName, [need(third, 1_000)]]]), Effect.succeed([]))
      const [found] = rings.get(theirName)!.choose(need(third, 1_000)).values()
      assert.strictEqual(found && encodeBase64(exportVerifyKey(found)), text(third))
    })
  )

  it.effect("our own keys from before a new installation verify the signatures of that time", () =>
    Effect.gen(function* () {
      const { keys, ours, vouched, vouchedBy } = yield* withNotary
      const installed = (yield* ours.list)[0]!.createdAt
      const lost = generateSigningKey(ourName, "ed25519:lost")
      const object = Result.getOrThrow(
        signJson(
          { server_name: ourName, verify_keys: { [lost.keyId]: { key: text(lost) } }, valid_until_ts: installed + day },
          lost
        )
      )
      vouched.objects = [vouchedBy(object)]
      yield* TestClock.adjust("1 hour")
      assert.isTrue(yield* hasFor(keys, need(lost, installed - 1), [notaryName], ourName))
      assert.isFalse(yield* hasFor(keys, need(lost, installed), [notaryName], ourName))
      assert.isFalse(yield* has(keys, need(lost), ourName))
    })
  )
})
