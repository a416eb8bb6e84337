import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { beginning } from "../src/StreamToken.ts"
import { ToDeviceStore } from "../src/ToDeviceStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { stores } from "./support/TestRoom.ts"

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

const times = (count: number, sender: (index: number) => string) => Array.from({ length: count }, (_, n) => sender(n))

layer(ToDeviceStore.layer.pipe(Layer.provideMerge(stores), Layer.provideMerge(TestDatabase.layer)))(
  "ToDeviceStore",
  (it) => {
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

    it.effect(
      "a flood by a user of the same server deletes no messages of others, counted in messages or in bytes",
      () =>
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
  }
)
