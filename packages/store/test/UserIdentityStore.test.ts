import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer, Option } from "effect"
import { AccountStore } from "../src/AccountStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"
import { UserIdentityStore } from "../src/UserIdentityStore.ts"

const person = Effect.fnUntraced(function* (name: string) {
  const userId = `@${name}:example.org` as UserId
  yield* (yield* AccountStore).create(userId)
  return userId
})

const email = (address: string) => ({ medium: "email", address }) as const

layer(Layer.merge(UserIdentityStore.layer, AccountStore.layer).pipe(Layer.provideMerge(TestDatabase.layer)))(
  "UserIdentityStore",
  (it) => {
    it.effect("an address belongs to one user, until it is taken away", () =>
      Effect.gen(function* () {
        const store = yield* UserIdentityStore
        const [alice, bob] = [yield* person("alice"), yield* person("bob")]
        const address = email("shared@example.org")
        assert.isTrue(yield* store.bindAddress(alice, address))
        assert.isTrue(yield* store.bindAddress(alice, address), "again")
        assert.isFalse(yield* store.bindAddress(bob, address))
        assert.deepStrictEqual(yield* store.userOfAddress(address), Option.some(alice))
        assert.isFalse(yield* store.unbindAddress(bob, address))
        assert.isTrue(yield* store.unbindAddress(alice, address))
        assert.isTrue(yield* store.bindAddress(bob, address))
        assert.deepStrictEqual(
          (yield* store.addressesOf(bob)).map((bound) => bound.address),
          ["shared@example.org"]
        )
      })
    )

    it.effect("an account at a provider belongs to one user, whatever the provider calls it", () =>
      Effect.gen(function* () {
        const store = yield* UserIdentityStore
        const [carol, dave] = [yield* person("carol"), yield* person("dave")]
        const subject = { provider: "one", subject: 'a "strange" \0 name' }
        assert.isTrue(yield* store.linkSubject(carol, subject))
        assert.isFalse(yield* store.linkSubject(dave, subject))
        assert.isTrue(yield* store.linkSubject(dave, { ...subject, provider: "two" }))
        assert.deepStrictEqual(yield* store.userOfSubject(subject), Option.some(carol))
        assert.deepStrictEqual(yield* store.subjectsOf(carol), [subject])
      })
    )

    it.effect("a deactivated account has neither", () =>
      Effect.gen(function* () {
        const store = yield* UserIdentityStore
        const erin = yield* person("erin")
        yield* store.bindAddress(erin, email("erin@example.org"))
        yield* store.linkSubject(erin, { provider: "one", subject: "erin" })
        yield* (yield* AccountStore).deactivate(erin)
        assert.isTrue(Option.isNone(yield* store.userOfAddress(email("erin@example.org"))))
        assert.isEmpty(yield* store.subjectsOf(erin))
      })
    )
  }
)
