import { assert, describe, it } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { isKeyId, signJson, verifyJson } from "@greenroom/room/Signing"
import { Clock, Effect, Layer, type Redacted, Result } from "effect"
import { TestClock } from "effect/testing"
import * as Database from "../src/Database.ts"
import { SigningKeys } from "../src/SigningKeys.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const serverName = "example.org" as ServerName

const node = (url: Redacted.Redacted) =>
  Effect.map(
    Layer.build(SigningKeys.layer(serverName).pipe(Layer.provide(Database.pool({ url, maxConnections: 2 })))),
    (context) => Effect.runSync(Effect.provide(SigningKeys, context))
  )

describe("SigningKeys", () => {
  it.effect("nodes that start together sign with the same key, and go on with it after a restart", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const nodes = yield* Effect.all([node(url), node(url), node(url)], { concurrency: "unbounded" })
      const keys = yield* Effect.all(nodes.map((keys) => keys.current))
      const later = yield* (yield* node(url)).current
      assert.isTrue(isKeyId(later.keyId))
      assert.deepStrictEqual(
        keys.map((key) => key.keyId),
        [later.keyId, later.keyId, later.keyId]
      )
    })
  )

  it.effect("signatures of a replaced key can still be verified, and other nodes follow", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const [keys, other] = [yield* node(url), yield* node(url)]
      const signed = Result.getOrThrow(signJson({ text: "hello" }, yield* keys.current))
      const next = yield* keys.rotate
      assert.strictEqual((yield* keys.current).keyId, next.keyId)
      assert.notStrictEqual((yield* other.current).keyId, next.keyId)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* other.current).keyId, next.keyId)

      const published = yield* keys.list
      assert.strictEqual(published[0]?.keyId, next.keyId)
      assert.isUndefined(published[0]?.expiredAt)
      assert.isDefined(published[1]?.expiredAt)
      const verifyKeys = new Map(published.map((key) => [key.keyId, key.publicKey]))
      assert.isTrue(Result.isSuccess(verifyJson(signed, serverName, verifyKeys)))
      const now = yield* Clock.currentTimeMillis
      const keyIds = (since: number) => Effect.map(keys.currentSince(since), (found) => found.map(({ keyId }) => keyId))
      assert.deepStrictEqual(yield* keyIds(now - 60_000), [published[1]?.keyId, next.keyId])
      assert.deepStrictEqual(yield* keyIds(now + 1), [next.keyId])
      const resigned = Result.getOrThrow(signJson({ text: "again" }, next))
      assert.isTrue(Result.isSuccess(verifyJson(resigned, serverName, verifyKeys)))
    })
  )
})
