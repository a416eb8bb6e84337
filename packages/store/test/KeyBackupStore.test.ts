import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { type BackedUpKey, KeyBackupStore } from "../src/KeyBackupStore.ts"
import { LargeReads, makeLargeReads, withAllowance } from "../src/LargeReads.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const limits = { keys: 3, bytes: 3_000, bytesOfUser: 4_000 }

const keyOf = (sessionId: string, bytes: number, firstMessageIndex = 5): BackedUpKey => ({
  roomId: "!room:green.test",
  sessionId,
  firstMessageIndex,
  forwardedCount: 0,
  isVerified: false,
  sessionData: JSON.stringify("x".repeat(bytes - 2))
})

/** A user with an empty backup. */
const userWithBackup = Effect.fnUntraced(function* (name: string) {
  const userId = `@${name}:green.test` as UserId
  yield* SqlClient.SqlClient.use((sql) => sql`INSERT INTO users (user_id, created_at) VALUES (${userId}, 0)`)
  const store = yield* KeyBackupStore
  const version = yield* store.create(userId, "test", {}, 5)
  return {
    userId,
    put: (...keys: ReadonlyArray<BackedUpKey>) => store.put(userId, version, keys, limits),
    version
  }
})

layer(KeyBackupStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)))("KeyBackupStore", (it) => {
  it.effect(
    "keys beyond the number or the bytes of a version, or the bytes of a user, are refused and change nothing",
    () =>
      Effect.gen(function* () {
        const store = yield* KeyBackupStore
        const { put, userId, version } = yield* userWithBackup("full")
        yield* put(keyOf("a", 1_000), keyOf("b", 1_000))
        assert.strictEqual((yield* Effect.flip(put(keyOf("c", 1_001))))._tag, "BackupFull")
        assert.strictEqual((yield* Effect.flip(put(keyOf("c", 10), keyOf("d", 10))))._tag, "BackupFull")
        assert.strictEqual((yield* put(keyOf("c", 1_000))).count, 3)
        assert.strictEqual((yield* put(keyOf("a", 500, 4))).count, 3)
        assert.strictEqual(Option.getOrThrow(yield* store.removeKeys(userId, version, { sessionId: "b" })).count, 2)
        assert.strictEqual((yield* put(keyOf("d", 1_500))).count, 3)
        const next = yield* store.create(userId, "test", {}, 5)
        assert.strictEqual(
          (yield* Effect.flip(store.put(userId, next, [keyOf("a", 1_001)], limits)))._tag,
          "BackupFull"
        )
        assert.strictEqual((yield* store.put(userId, next, [keyOf("a", 1_000)], limits)).count, 1)
      })
  )

  it.effect("of more versions than a user may have the oldest is deleted", () =>
    Effect.gen(function* () {
      const store = yield* KeyBackupStore
      const { userId, version } = yield* userWithBackup("versions")
      for (let more = 0; more < 2; more++) yield* store.create(userId, "test", {}, 3)
      assert.isTrue(Option.isSome(yield* store.find(userId, version)))
      yield* store.create(userId, "test", {}, 3)
      assert.isTrue(Option.isNone(yield* store.find(userId, version)))
      assert.isTrue(Option.isSome(yield* store.find(userId, version + 1)))
    })
  )

  it.effect("a key that is not better than the one that is there changes neither counts nor etag", () =>
    Effect.gen(function* () {
      const { put } = yield* userWithBackup("same")
      const first = yield* put(keyOf("a", 100))
      assert.deepStrictEqual(yield* put(keyOf("a", 200)), first)
      const better = yield* put(keyOf("a", 200, 4))
      assert.strictEqual(better.count, 1)
      assert.notStrictEqual(better.etag, first.etag)
      const forwarded = yield* put({ ...keyOf("a", 200, 3), forwardedCount: 2 })
      assert.notStrictEqual(forwarded.etag, better.etag)
      assert.deepStrictEqual(yield* put({ ...keyOf("a", 200, 3), forwardedCount: 2 }), forwarded)
      assert.notStrictEqual((yield* put({ ...keyOf("a", 200, 3), forwardedCount: 1 })).etag, forwarded.etag)
    })
  )

  it.effect("a backup above limits that were lowered since takes keys that need no more bytes", () =>
    Effect.gen(function* () {
      const store = yield* KeyBackupStore
      const { put, userId, version } = yield* userWithBackup("lowered")
      yield* put(keyOf("a", 1_000), keyOf("b", 1_000))
      const lower = { keys: 1, bytes: 1_000, bytesOfUser: 1_000 }
      assert.strictEqual((yield* store.put(userId, version, [keyOf("a", 900, 4)], lower)).count, 2)
      const more = store.put(userId, version, [keyOf("a", 901, 3)], lower)
      assert.strictEqual((yield* Effect.flip(more))._tag, "BackupFull")
    })
  )

  it.effect("a deleted backup has no keys any more, and cannot be changed", () =>
    Effect.gen(function* () {
      const store = yield* KeyBackupStore
      const { put, userId, version } = yield* userWithBackup("deleted")
      yield* put(keyOf("a", 100))
      assert.isTrue(yield* store.remove(userId, version))
      yield* store.setAuthData(userId, version, { changed: true })
      const sql = yield* SqlClient.SqlClient
      assert.deepStrictEqual(yield* sql`SELECT auth_data FROM key_backups WHERE user_id = ${userId}`, [
        { auth_data: "{}" }
      ])
      assert.deepStrictEqual(yield* store.keys(userId, version, {}), [])
      assert.strictEqual((yield* Effect.flip(put(keyOf("a", 100))))._tag, "WrongVersion")
      assert.isTrue(Option.isNone(yield* store.removeKeys(userId, version, {})))
    })
  )

  it.effect("keys of more bytes than a request may read are not read", () =>
    Effect.gen(function* () {
      const store = yield* KeyBackupStore
      const { userId, version } = yield* userWithBackup("large")
      const large = { keys: 10, bytes: 10_000_000, bytesOfUser: 10_000_000 }
      yield* store.put(userId, version, [keyOf("a", 1_500_000), keyOf("b", 1_500_000)], large)
      const few = makeLargeReads({ tiers: [], most: 2_000_000 })
      const read = (sessionId?: string) =>
        withAllowance(store.keys(userId, version, { sessionId })).pipe(Effect.provideService(LargeReads, few))
      assert.lengthOf(yield* read("a"), 1)
      assert.include(String(yield* Effect.flip(Effect.sandbox(read()))), "M_TOO_LARGE")
    })
  )
})
