import { setImmediate } from "node:timers/promises"
import { assert, describe, it } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { encodeBase64, exportVerifyKey, generateSigningKey, signJson, verifyKeyOf } from "@greenroom/room/Signing"
import * as Database from "@greenroom/store/Database"
import { RemoteKeyStore } from "@greenroom/store/RemoteKeyStore"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Clock, Context, Effect, Fiber, Layer, Result } from "effect"
import { TestClock } from "effect/testing"
import { FederationConfig } from "../../src/federation/FederationConfig.ts"
import { FederationTransport } from "../../src/federation/FederationTransport.ts"
import { KeyNotary } from "../../src/federation/KeyNotary.ts"
import { RemoteKeys } from "../../src/federation/RemoteKeys.ts"
import { ServerDiscovery } from "../../src/federation/ServerDiscovery.ts"
import { HomeServerConfig } from "../../src/runtime/HomeServerConfig.ts"
import { tlsServer } from "./support/TlsServer.ts"

const ourName = "us.test" as ServerName
const theirName = "example.org" as ServerName
const day = 86_400_000
/** How many servers are asked at once of those that answered last, and of the others. */
const atOnce = 16

const silentNames = Array.from({ length: 400 }, (_, number) => `silent${number}.test` as ServerName)

const keyObject = (keyId: string): JsonObject => {
  const key = generateSigningKey(theirName, keyId)
  const verify_keys = { [keyId]: { key: encodeBase64(exportVerifyKey(verifyKeyOf(key))) } }
  return Result.getOrThrow(signJson({ server_name: theirName, verify_keys, valid_until_ts: 7 * day }, key))
}

/** A notary, a server with a key, and one of many names that never answers. */
const world = Effect.gen(function* () {
  const published = { object: keyObject("ed25519:first") }
  const server = yield* tlsServer(() => ({ body: JSON.stringify(published.object) }))
  const silent = yield* tlsServer(() => undefined)
  const at = ({ port }: { readonly port: number }) => `127.0.0.1:${port}`
  const context = yield* Layer.build(
    KeyNotary.layer.pipe(
      Layer.provide(RemoteKeys.layer),
      Layer.provide(FederationTransport.layer),
      Layer.provide(ServerDiscovery.layer),
      Layer.provide([RemoteKeyStore.layer, SigningKeys.layer(ourName)]),
      Layer.provide([
        Layer.succeed(FederationConfig, {
          verifyCertificates: false,
          staticServers: {
            [theirName]: at(server),
            ...Object.fromEntries(silentNames.map((name) => [name, at(silent)]))
          }
        }),
        Layer.succeed(HomeServerConfig, { serverName: ourName, dataDir: "unused" })
      ]),
      Layer.provide(Database.pool({ url: yield* TestDatabase.url, maxConnections: 2 }))
    )
  )
  const notary = Context.get(context, KeyNotary)
  const query = Effect.fnUntraced(function* (servers: ReadonlyArray<ServerName>, ...keyIds: ReadonlyArray<string>) {
    const criteria = { keyIds: new Set(keyIds), validUntil: yield* Clock.currentTimeMillis }
    const objects = yield* notary.query(new Map(servers.map((name) => [name, criteria])))
    return objects.flatMap(({ verify_keys }) => (isJsonObject(verify_keys) ? Object.keys(verify_keys) : []))
  })
  /** Waits until so many requests have reached the silent server. */
  const silentAsked = (count: number) =>
    Effect.repeat(
      Effect.promise(() => setImmediate()),
      { until: () => silent.requests.length >= count }
    )
  /** A query about a hundred servers that do not answer. */
  const askSilent = (number: number) => Effect.forkChild(query(silentNames.slice(100 * number, 100 * (number + 1))))
  return { published, silent, query, silentAsked, askSilent }
})

describe("KeyNotary", () => {
  it.effect("the keys of a server that answered before are renewed while queries name many silent servers", () =>
    Effect.gen(function* () {
      const { askSilent, published, query, silentAsked } = yield* world
      assert.deepStrictEqual(yield* query([theirName]), ["ed25519:first"])
      yield* TestClock.adjust("2 days")
      for (const number of [0, 1, 2]) yield* askSilent(number)
      yield* silentAsked(atOnce)
      published.object = keyObject("ed25519:second")
      assert.include(yield* query([theirName], "ed25519:second"), "ed25519:second")
    })
  )

  it.effect("a server that was never asked waits for one turn of those of other queries", () =>
    Effect.gen(function* () {
      const { askSilent, query, silentAsked } = yield* world
      yield* askSilent(0)
      yield* silentAsked(atOnce)
      yield* TestClock.adjust("5 seconds")
      for (const number of [1, 2, 3]) yield* askSilent(number)
      const asking = yield* Effect.forkChild(query([theirName]))
      // The queries have begun to wait.
      yield* Effect.promise(() => setImmediate())
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(yield* Fiber.join(asking), ["ed25519:first"])
    })
  )

  it.effect("a server that does not answer is asked less and less often", () =>
    Effect.gen(function* () {
      const { query, silent, silentAsked } = yield* world
      for (let count = 0; count < 12; count++) {
        const asked = silent.requests.length
        const asking = yield* Effect.forkChild(query(silentNames.slice(0, 1)))
        yield* Effect.raceFirst(silentAsked(asked + 1), Fiber.await(asking))
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(yield* Fiber.join(asking), [])
      }
      assert.isBelow(silent.requests.length, 9)
    })
  )
})
