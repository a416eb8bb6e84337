import { assert, layer } from "@effect/vitest"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { ThirdPartyInviteStore } from "../src/ThirdPartyInviteStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const alice = "@alice:green.test" as UserId
const bob = "@bob:green.test" as UserId

const invite = (token: string) => ({
  token,
  roomId: "!room:green.test" as RoomId,
  sender: alice,
  publicKeys: ["a", "b"],
  displayName: "b...@e..."
})

const users = Layer.effectDiscard(
  SqlClient.SqlClient.use((sql) => sql`INSERT INTO users (user_id, created_at) VALUES (${alice}, 0)`)
)

const store = Layer.merge(ThirdPartyInviteStore.layer, users).pipe(Layer.provideMerge(TestDatabase.layer))

layer(store)("ThirdPartyInviteStore", (it) => {
  it.effect("keeps an invitation as it was made, once for each transaction", () =>
    Effect.gen(function* () {
      const invites = yield* ThirdPartyInviteStore
      assert.isFalse(yield* invites.isDone("1 a"))
      assert.isTrue(yield* invites.add(invite("kept"), "1 a"))
      assert.isTrue(yield* invites.isDone("1 a"))
      assert.isFalse(yield* invites.add(invite("repeated"), "1 a"))
      assert.isFalse(yield* invites.add(invite("kept")))
      assert.deepStrictEqual(yield* invites.find("kept"), Option.some(invite("kept")))
      assert.isTrue(Option.isNone(yield* invites.find("repeated")))
      assert.strictEqual(yield* invites.countBetween(alice, 0, Date.now()), 1)
      assert.strictEqual(yield* invites.countBetween(bob, 0, Date.now()), 0)
    })
  )

  it.effect("an invitation is handled by one worker at a time, for the first user, until it ends", () =>
    Effect.gen(function* () {
      const invites = yield* ThirdPartyInviteStore
      yield* invites.add(invite("claimed"))
      const claims = yield* Effect.all(
        Array.from({ length: 8 }, () => invites.claim("claimed", bob)),
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual([...claims].sort(), [...Array.from({ length: 7 }, () => "busy"), "claimed"])
      assert.strictEqual(yield* invites.claim("claimed", alice), "another user's")
      yield* invites.release("claimed")
      assert.strictEqual(yield* invites.claim("claimed", bob), "claimed")
      yield* invites.end("claimed")
      yield* invites.release("claimed")
      assert.strictEqual(yield* invites.claim("claimed", bob), "ended")
      assert.strictEqual(yield* invites.claim("claimed", alice), "another user's")
      assert.strictEqual(yield* invites.claim("unknown", bob), "ended")
    })
  )
})
