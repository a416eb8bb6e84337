import { assert, layer } from "@effect/vitest"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer, Option } from "effect"
import { ProfileStore } from "../src/ProfileStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const alice = "@alice:example.org" as UserId
const bob = "@bob:example.org" as UserId
const carol = "@carol:example.org" as UserId

layer(ProfileStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)))("ProfileStore", (it) => {
  it.effect("fields hold any JSON, each with its visibility", () =>
    Effect.gen(function* () {
      const store = yield* ProfileStore
      const location = { value: { lat: 1.5, name: "\0 \udfff 🏡" }, visibility: "contacts" } as const
      yield* store.set(alice, "location", { value: "Berlin", visibility: "private" })
      yield* store.set(alice, "location", location)
      yield* store.set(alice, "org.example.age", { value: 30, visibility: "rooms" })
      assert.deepStrictEqual(Option.getOrThrow(yield* store.field(alice, "location")), location)
      assert.deepStrictEqual([...(yield* store.fields(alice)).keys()].sort(), ["location", "org.example.age"])
      assert.isTrue(Option.isNone(yield* store.field(bob, "location")))
      yield* store.remove(alice, "location")
      assert.isTrue(Option.isNone(yield* store.field(alice, "location")))
    })
  )

  it.effect("display names and avatars of many users come at once", () =>
    Effect.gen(function* () {
      const store = yield* ProfileStore
      yield* store.set(bob, "displayname", { value: "Bob", visibility: "public" })
      yield* store.set(bob, "avatar_url", { value: "mxc://example.org/bob", visibility: "public" })
      yield* store.set(carol, "displayname", { value: "Carol", visibility: "public" })
      const nobody = "@nobody:example.org" as UserId
      const profiles = yield* store.publicProfiles([bob, carol, nobody, bob])
      assert.deepStrictEqual([...profiles].sort(), [
        [bob, { displayname: "Bob", avatar_url: "mxc://example.org/bob" }],
        [carol, { displayname: "Carol" }]
      ])
      assert.deepStrictEqual(yield* store.publicProfile(carol), { displayname: "Carol" })
      assert.deepStrictEqual(yield* store.publicProfile(nobody), {})
      assert.strictEqual((yield* store.publicProfiles([])).size, 0)
      yield* store.removeAll(bob)
      assert.deepStrictEqual(yield* store.publicProfile(bob), {})
    })
  )

  it.effect("a changed name stays pending until all rooms have the newest one", () =>
    Effect.gen(function* () {
      const store = yield* ProfileStore
      const dan = "@dan:example.org" as UserId
      yield* store.set(dan, "bio", { value: "no member event carries it", visibility: "public" })
      assert.isTrue(Option.isNone(yield* store.pendingPropagation(dan)))
      yield* store.set(dan, "displayname", { value: "Dan", visibility: "public" })
      const first = Option.getOrThrow(yield* store.pendingPropagation(dan))
      yield* store.remove(dan, "displayname")
      yield* store.finishPropagation(dan, first)
      assert.include(yield* store.pendingPropagations, dan)
      yield* store.finishPropagation(dan, Option.getOrThrow(yield* store.pendingPropagation(dan)))
      assert.notInclude(yield* store.pendingPropagations, dan)
    })
  )
})
