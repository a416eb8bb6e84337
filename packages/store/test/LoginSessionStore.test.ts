import { assert, layer } from "@effect/vitest"
import { Effect, Layer, Option, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { LoginSessionStore } from "../src/LoginSessionStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const secret = (text: string) => Redacted.make(text)
const hour = 3_600_000

const begin = Effect.fnUntraced(function* (name: string, more: { readonly most?: number } = {}) {
  const store = yield* LoginSessionStore
  const { most = 100 } = more
  return yield* store.create(
    {
      secret: secret(name),
      purpose: "login",
      progress: { of: name },
      address: "192.0.2.1",
      expiresAt: hour,
      link: secret(`link of ${name}`),
      state: secret(`state of ${name}`)
    },
    most
  )
})

const found = (name: string) =>
  Effect.flatMap(LoginSessionStore, (store) => Effect.map(store.find(secret(name)), Option.getOrThrow))

layer(LoginSessionStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)))("LoginSessionStore", (it) => {
  it.effect("a session is found by its secrets, none of which is in the database", () =>
    Effect.gen(function* () {
      const store = yield* LoginSessionStore
      yield* begin("one")
      const one = yield* found("one")
      assert.deepInclude(one as object, {
        purpose: "login",
        progress: { of: "one" },
        address: "192.0.2.1",
        expiresAt: hour
      })
      const byLink = Option.getOrThrow(yield* store.findByLink(secret("link of one")))
      assert.strictEqual(byLink.sessionId, one.sessionId)
      assert.isTrue(Option.isNone(yield* store.find(secret("link of one"))))
      const sql = yield* SqlClient.SqlClient
      const rows = yield* sql`SELECT session_hash::text, link_hash::text, state_hash::text FROM login_sessions`
      assert.notMatch(JSON.stringify(rows), /one/)
    })
  )

  it.effect("a state finds its session once", () =>
    Effect.gen(function* () {
      const store = yield* LoginSessionStore
      yield* begin("two")
      const takes = yield* Effect.all(
        Array.from({ length: 5 }, () => store.takeByState(secret("state of two"))),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(takes.filter(Option.isSome).length, 1)
    })
  )

  it.effect("of two changes of the same version one wins, and so it is with its end", () =>
    Effect.gen(function* () {
      const store = yield* LoginSessionStore
      yield* begin("three")
      const session = yield* found("three")
      assert.isTrue(yield* store.update(session, { progress: { step: 1 } }))
      assert.isFalse(yield* store.update(session, { progress: { step: 2 } }))
      assert.isFalse(yield* store.end(session))
      const changed = yield* found("three")
      assert.deepStrictEqual(changed.progress, { step: 1 } as never)
      assert.deepStrictEqual([yield* store.end(changed), yield* store.end(changed)], [true, false])
      assert.isTrue(Option.isNone(yield* store.find(secret("three"))))
    })
  )

  it.effect("guesses at once are counted each, until they are counted afresh", () =>
    Effect.gen(function* () {
      const store = yield* LoginSessionStore
      yield* begin("four")
      const guess = store.takeTry(secret("four"), 3)
      const guesses = yield* Effect.all(
        Array.from({ length: 10 }, () => guess),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(guesses.filter(Option.isSome).length, 3)
      yield* store.update(yield* found("four"), { progress: {}, freshTries: true })
      assert.isTrue(Option.isSome(yield* guess))
    })
  )

  it.effect("a new secret takes the place of the old one", () =>
    Effect.gen(function* () {
      const store = yield* LoginSessionStore
      yield* begin("five")
      yield* store.update(yield* found("five"), { progress: {}, secret: secret("renewed") })
      assert.isTrue(Option.isNone(yield* store.find(secret("five"))))
      assert.isTrue(Option.isSome(yield* store.find(secret("renewed"))))
    })
  )

  it.effect("an address has a limited number of unexpired sessions; expired ones are deleted", () =>
    Effect.gen(function* () {
      const store = yield* LoginSessionStore
      const sql = yield* SqlClient.SqlClient
      yield* sql`DELETE FROM login_sessions`
      assert.deepStrictEqual(
        [yield* begin("six", { most: 2 }), yield* begin("seven", { most: 2 }), yield* begin("eight", { most: 2 })],
        [true, true, false]
      )
      yield* TestClock.adjust(hour)
      assert.isTrue(Option.isNone(yield* store.find(secret("six"))))
      assert.isTrue(Option.isNone(yield* store.findByLink(secret("link of six"))))
      assert.isTrue(Option.isNone(yield* store.takeByState(secret("state of six"))))
      assert.isTrue(Option.isNone(yield* store.takeTry(secret("six"), 3)))
      assert.isTrue(yield* begin("eight", { most: 1 }))
      yield* store.removeExpired
      assert.isEmpty(yield* sql`SELECT 1 FROM login_sessions`)
    })
  )
})
