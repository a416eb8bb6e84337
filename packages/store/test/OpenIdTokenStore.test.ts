import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer, Option, Redacted } from "effect"
import { TestClock } from "effect/testing"
import { AccountStore } from "../src/AccountStore.ts"
import { OpenIdTokenStore } from "../src/OpenIdTokenStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const stores = Layer.mergeAll(AccountStore.layer, OpenIdTokenStore.layer)

layer(stores.pipe(Layer.provideMerge(TestDatabase.layer)))("OpenIdTokenStore", (it) => {
  it.effect("a user has a bounded number of tokens: one more ends the oldest of theirs", () =>
    Effect.gen(function* () {
      const store = yield* OpenIdTokenStore
      const accounts = yield* AccountStore
      const [ann, ben] = ["@ann:example.org" as UserId, "@ben:example.org" as UserId]
      for (const user of [ann, ben]) yield* accounts.create(user)
      const create = (user: UserId, n: number) => store.create(user, Redacted.make(`${user} ${n}`), 1_000 + n, 3)
      yield* create(ben, 0)
      for (let n = 0; n < 5; n++) yield* create(ann, n)
      const isKnown = (user: UserId, n: number) => Effect.map(store.find(Redacted.make(`${user} ${n}`)), Option.isSome)
      assert.deepStrictEqual(yield* Effect.forEach([0, 1, 2, 3, 4], (n) => isKnown(ann, n)), [
        false,
        false,
        true,
        true,
        true
      ])
      assert.isTrue(yield* isKnown(ben, 0))
      // They end with the account, and with their time.
      yield* accounts.deactivate(ben)
      assert.isFalse(yield* isKnown(ben, 0))
      yield* TestClock.setTime(1_003)
      assert.deepStrictEqual(yield* Effect.forEach([3, 4], (n) => isKnown(ann, n)), [false, true])
    })
  )
})
