import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer, Option } from "effect"
import { PresenceStore, type StoredPresence } from "../src/PresenceStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const alice = "@alice:example.org" as UserId
const bob = "@bob:example.org" as UserId
const away: StoredPresence = {
  state: "unavailable",
  status_msg: "out \0 \ud83d for a walk",
  last_active_at: 1_700_000_000_000,
  chosen_at: undefined
}
const hidden: StoredPresence = { state: "hidden", status_msg: undefined, last_active_at: undefined, chosen_at: 5 }

layer(PresenceStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)))("PresenceStore", (it) => {
  it.effect("a presence is found as it was saved last", () =>
    Effect.gen(function* () {
      const store = yield* PresenceStore
      assert.isTrue(Option.isNone(yield* store.get(alice)))
      yield* store.save(alice, hidden)
      yield* store.save(bob, hidden)
      yield* store.save(alice, away)
      assert.deepStrictEqual(Option.getOrThrow(yield* store.get(alice)), away)
      const found = yield* store.many([bob, alice, "@nobody:example.org" as UserId])
      assert.deepStrictEqual([...found.keys()].sort(), [alice, bob])
      assert.deepStrictEqual(found.get(bob), hidden)
      yield* store.remove(alice)
      assert.isTrue(Option.isNone(yield* store.get(alice)))
    })
  )
})
