import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Fiber, Layer, Option, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { AccountStore } from "../src/AccountStore.ts"
import { beginning } from "../src/StreamToken.ts"
import { ToDeviceStore } from "../src/ToDeviceStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { bob, stores } from "./support/TestRoom.ts"
import { untilBlocked } from "./support/untilBlocked.ts"

const theEnd = { xid: Number.MAX_SAFE_INTEGER, nid: Number.MAX_SAFE_INTEGER }

/** Messages of these senders, the oldest first, for a device of a user. */
const fill = Effect.fnUntraced(function* (userId: UserId, senders: ReadonlyArray<string>, content: object = {}) {
  const sql = yield* SqlClient.SqlClient
  for (const sender of senders) {
    yield* sql`
      INSERT INTO to_device_messages (user_id, device_id, sender, type, content)
      VALUES (${userId}, 'D', ${sender}, 'm.test', ${JSON.stringify(content)})`
  }
})

const sendersOf = Effect.fnUntraced(function* (userId: UserId) {
  const read = yield* (yield* ToDeviceStore).read(userId, "D", beginning, theEnd, 1_000)
  return read.map(({ sender }) => sender)
})

/** A login of a new account on the device. */
const login = Effect.fnUntraced(function* (userId: UserId) {
  const accounts = yield* AccountStore
  yield* accounts.create(userId)
  return Option.getOrThrow(yield* accounts.createToken({ userId, token: Redacted.make(userId), deviceId: "D" }))
})

/** Sends a message to the device of a user. */
const sendTo = (userId: UserId, txnId: string) =>
  Effect.flatMap(ToDeviceStore, (store) =>
    store.send(bob, "m.test", [{ userId, deviceId: "D", content: "{}" }], { tokenId: 1, txnId, at: 0 })
  )

const times = (count: number, sender: (index: number) => string) => Array.from({ length: count }, (_, n) => sender(n))

const database = Layer.mergeAll(AccountStore.layer, ToDeviceStore.layer).pipe(
  Layer.provideMerge(stores),
  Layer.provideMerge(TestDatabase.layer)
)

layer(database, { excludeTestServices: true })("ToDeviceStore", (it) => {
  it.effect("messages are read in the order of the log, however the database finds them", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const user = "@ordered:example.org" as UserId
      for (const nid of [3, 1, 2]) {
        yield* sql`
          INSERT INTO to_device_messages (user_id, device_id, sender, type, content, xid, nid)
          VALUES (${user}, 'D', ${`@${nid}:example.org`}, 'm.test', '{}', '5', ${nid})`
      }
      const read = Effect.andThen(sql`SET LOCAL enable_indexscan = off`, sendersOf(user))
      const senders = yield* sql.withTransaction(read)
      assert.deepStrictEqual(senders, ["@1:example.org", "@2:example.org", "@3:example.org"])
    })
  )

  it.effect("a flood by one server deletes no messages of others", () =>
    Effect.gen(function* () {
      const user = "@alice:example.org" as UserId
      const honest = ["@bob:honest.org", "@carol:example.org", "@dan:other.org"]
      yield* fill(user, honest)
      yield* fill(
        user,
        times(100, (index) => `@flood${index}:evil.org`)
      )
      assert.strictEqual(yield* (yield* ToDeviceStore).trim(10, 1_000_000), 93)
      const left = yield* sendersOf(user)
      assert.deepStrictEqual(left.slice(0, 3), honest)
      // Of the flood the newest are kept.
      assert.deepStrictEqual(
        left.slice(3),
        times(7, (index) => `@flood${93 + index}:evil.org`)
      )
    })
  )

  it.effect("a flood by a user of the same server deletes no messages of others, counted in messages or in bytes", () =>
    Effect.gen(function* () {
      const user = "@erin:example.org" as UserId
      const text = "x".repeat(88)
      const bytes = JSON.stringify({ text }).length
      yield* fill(user, ["@bob:example.org", "@carol:example.org"], { text })
      yield* fill(
        user,
        times(50, () => "@mallory:example.org"),
        { text }
      )
      yield* (yield* ToDeviceStore).trim(1_000, 10 * bytes)
      const left = yield* sendersOf(user)
      assert.deepStrictEqual(left, [
        "@bob:example.org",
        "@carol:example.org",
        ...times(8, () => "@mallory:example.org")
      ])
    })
  )

  it.effect("a transaction is stored once, also if it is repeated before it is stored", () =>
    Effect.gen(function* () {
      const user = "@frank:example.org" as UserId
      yield* login(user)
      // The repeats wait together while the first one is stored.
      yield* Effect.forEach(["one", "two", "two", "two"], (txnId) => sendTo(user, txnId), { concurrency: "unbounded" })
      assert.lengthOf(yield* sendersOf(user), 2)
    })
  )

  it.effect("a message to a device that logs out meanwhile does not wait for the next device of that name", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const fork = yield* Effect.map(Effect.context<ToDeviceStore>(), Effect.runForkWith)
      const { tokenId } = yield* login(bob)
      const sending = yield* sql.withTransaction(
        Effect.gen(function* () {
          yield* (yield* AccountStore).revoke(bob, tokenId)
          const sending = fork(sendTo(bob, "late"))
          yield* untilBlocked
          return sending
        })
      )
      yield* Fiber.join(sending)
      assert.deepStrictEqual(yield* sendersOf(bob), [])
    })
  )
})
