import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { OAuthClientStore } from "../src/OAuthClientStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

layer(OAuthClientStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)))("OAuthClientStore", (it) => {
  it.effect("clients without a login are bounded in number; those with one, and known ones, are not counted", () =>
    Effect.gen(function* () {
      const store = yield* OAuthClientStore
      const sql = yield* SqlClient.SqlClient
      const register = (id: string, metadata = id) => Effect.map(store.register(id, metadata, 2), Option.getOrUndefined)
      assert.deepStrictEqual([yield* register("a"), yield* register("b"), yield* register("c")], ["a", "b", undefined])
      assert.strictEqual(yield* register("again", "a"), "a")
      yield* sql`INSERT INTO users (user_id, created_at) VALUES ('@ann:example.org', 0)`
      yield* sql`
        INSERT INTO access_tokens (token_hash, user_id, device_id, created_at, last_used_at, client_id)
        VALUES ('\\x00', '@ann:example.org', 'D', 0, 0, 'b')`
      assert.deepStrictEqual([yield* register("c"), yield* register("d")], ["c", undefined])
      yield* TestClock.setTime(1_000)
      yield* store.removeUnused(500)
      assert.deepStrictEqual(
        yield* Effect.forEach(["a", "b", "c"], (id) => Effect.map(store.find(id), Option.isSome)),
        [false, true, false]
      )
      assert.strictEqual(yield* register("d"), "d")
    })
  )

  it.effect("a user may reset their keys until the time that was set, and nobody else", () =>
    Effect.gen(function* () {
      const store = yield* OAuthClientStore
      const sql = yield* SqlClient.SqlClient
      const [ben, eve] = ["@ben:example.org" as UserId, "@eve:example.org" as UserId]
      for (const user of [ben, eve]) yield* sql`INSERT INTO users (user_id, created_at) VALUES (${user}, 0)`
      yield* store.allowKeysReset(ben, 10_000)
      const may = Effect.forEach([ben, eve], store.mayResetKeys)
      yield* TestClock.setTime(9_999)
      assert.deepStrictEqual(yield* may, [true, false])
      yield* TestClock.setTime(10_000)
      assert.deepStrictEqual(yield* may, [false, false])
    })
  )
})
