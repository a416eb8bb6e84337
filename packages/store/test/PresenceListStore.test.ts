import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer } from "effect"
import { PresenceListStore } from "../src/PresenceListStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const user = (localpart: string) => `@${localpart}:example.org` as UserId

layer(PresenceListStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)))("PresenceListStore", (it) => {
  it.effect("an invitation is pending until it is accepted, and stays accepted when it is sent again", () =>
    Effect.gen(function* () {
      const store = yield* PresenceListStore
      const [alice, bob] = [user("alice"), user("bob")]
      assert.strictEqual(yield* store.invite(alice, bob), "new")
      assert.strictEqual(yield* store.invite(alice, bob), "pending")
      assert.deepStrictEqual(yield* store.invitations(bob), [alice])
      assert.deepStrictEqual(yield* store.observers(bob), [])
      assert.isFalse(yield* store.accepted(bob, alice))

      assert.isTrue(yield* store.accept(bob, alice))
      assert.strictEqual(yield* store.invite(alice, bob), "accepted")
      assert.isTrue(yield* store.accepted(bob, alice))
      assert.isFalse(yield* store.accepted(alice, bob))
      assert.deepStrictEqual(yield* store.observers(bob), [alice])
      assert.deepStrictEqual(yield* store.invitations(bob), [])
      assert.deepStrictEqual(yield* store.list(alice), [{ userId: bob, accepted: true }])
    })
  )

  it.effect("presence cannot be granted to users who did not ask", () =>
    Effect.gen(function* () {
      const store = yield* PresenceListStore
      assert.isFalse(yield* store.accept(user("carol"), user("dan")))
      assert.isFalse(yield* store.accepted(user("carol"), user("dan")))
    })
  )

  it.effect("the observed user can withdraw the permission, and the observer can drop the entry", () =>
    Effect.gen(function* () {
      const store = yield* PresenceListStore
      const [eve, frank, grace] = [user("eve"), user("frank"), user("grace")]
      yield* store.invite(eve, frank)
      yield* store.invite(eve, grace)
      yield* store.accept(frank, eve)
      assert.isTrue(yield* store.deny(frank, eve))
      assert.isFalse(yield* store.deny(frank, eve))
      assert.isTrue(yield* store.denied(frank, eve))
      assert.deepStrictEqual(yield* store.list(eve), [{ userId: grace, accepted: false }])
      assert.deepStrictEqual(yield* store.drop(eve, [grace, frank]), [grace])
      assert.deepStrictEqual(yield* store.list(eve), [])
      assert.deepStrictEqual(yield* store.drop(eve, []), [])
    })
  )

  it.effect("a deactivated user is removed from all lists", () =>
    Effect.gen(function* () {
      const store = yield* PresenceListStore
      const [heidi, ivan] = [user("heidi"), user("ivan")]
      yield* store.invite(heidi, ivan)
      yield* store.invite(ivan, heidi)
      yield* store.removeAll(heidi)
      assert.deepStrictEqual(yield* store.list(ivan), [])
      assert.deepStrictEqual(yield* store.list(heidi), [])
    })
  )
})
