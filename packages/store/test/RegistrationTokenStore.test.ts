import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { TestClock } from "effect/testing"
import { RegistrationTokenStore } from "../src/RegistrationTokenStore.ts"
import { hashOfSecret } from "../src/Secrets.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const token = (text: string) => Redacted.make(text)
const hash = (text: string) => hashOfSecret(token(text))

layer(RegistrationTokenStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)))("RegistrationTokenStore", (it) => {
  it.effect("a token is used as often as it may be, also by many at once", () =>
    Effect.gen(function* () {
      const store = yield* RegistrationTokenStore
      yield* store.create({ token: token("thrice"), tokenId: "a", usesAllowed: 3 })
      const uses = yield* Effect.all(
        Array.from({ length: 10 }, () => store.use(hash("thrice"))),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(uses.filter((used) => used).length, 3)
      assert.isFalse(yield* store.isValid(hash("thrice")))
      assert.isFalse(yield* store.isValid(hash("unknown")))
      assert.deepInclude((yield* store.list)[0], { tokenId: "a", uses: 3, usesAllowed: 3 })
    })
  )

  it.effect("a token ends when it expires, or is withdrawn; there is one of each", () =>
    Effect.gen(function* () {
      const store = yield* RegistrationTokenStore
      yield* store.create({ token: token("for an hour"), tokenId: "b", expiresAt: 3_600_000 })
      assert.isFalse(yield* store.create({ token: token("for an hour"), tokenId: "c" }))
      assert.isTrue(yield* store.use(hash("for an hour")))
      yield* TestClock.adjust(3_600_000)
      assert.isFalse(yield* store.use(hash("for an hour")))
      yield* store.create({ token: token("withdrawn"), tokenId: "d" })
      assert.deepStrictEqual([yield* store.remove("d"), yield* store.remove("d")], [true, false])
      assert.isFalse(yield* store.use(hash("withdrawn")))
    })
  )
})
