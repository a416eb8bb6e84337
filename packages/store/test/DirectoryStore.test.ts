import { assert, layer } from "@effect/vitest"
import type { RoomAlias, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Layer, Option } from "effect"
import { SqlClient } from "effect/sql"
import { TestClock } from "effect/testing"
import { DirectoryStore } from "../src/DirectoryStore.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const alias = "#ünïcödé:example.org" as RoomAlias
const entry = {
  roomId: "!room:example.org" as RoomId,
  servers: ["example.org", "other.example"] as ReadonlyArray<string> as ReadonlyArray<ServerName>,
  creator: "@alice:example.org" as UserId
}

/** The room exists from then on. */
const complete = (roomId: RoomId) =>
  SqlClient.SqlClient.use(
    (sql) => sql`INSERT INTO rooms (room_id, version, created_at, current_chain) VALUES (${roomId}, 'test', 0, 1)`
  )

layer(DirectoryStore.layer.pipe(Layer.provideMerge(TestDatabase.layer)))("DirectoryStore", (it) => {
  it.effect("a user and a room have a limited number of aliases", () =>
    Effect.gen(function* () {
      const store = yield* DirectoryStore
      const make = (name: string, creator: string, room: string) =>
        store.create(
          `#${name}:limits.org` as RoomAlias,
          { ...entry, creator: creator as UserId, roomId: room as RoomId },
          2
        )
      yield* make("a", "@maker:limits.org", "!1:limits.org")
      yield* make("b", "@maker:limits.org", "!2:limits.org")
      assert.strictEqual((yield* Effect.flip(make("c", "@maker:limits.org", "!3:limits.org")))._tag, "M_FORBIDDEN")
      yield* make("c", "@other:limits.org", "!2:limits.org")
      assert.strictEqual((yield* Effect.flip(make("d", "@third:limits.org", "!2:limits.org")))._tag, "M_FORBIDDEN")
      yield* store.remove("#b:limits.org" as RoomAlias)
      yield* make("d", "@maker:limits.org", "!2:limits.org")
    })
  )

  it.effect("an alias names one room until it is removed", () =>
    Effect.gen(function* () {
      const store = yield* DirectoryStore
      assert.isTrue(Option.isNone(yield* store.find(alias)))
      yield* complete(entry.roomId)
      assert.isTrue(yield* store.create(alias, entry))
      const other = { ...entry, servers: [], creator: "@bob:example.org" as UserId }
      assert.isFalse(yield* store.create(alias, other), "it named this room already")
      yield* store.create("#another:example.org" as RoomAlias, { ...entry, servers: [] })
      assert.deepStrictEqual(Option.getOrThrow(yield* store.find(alias)), entry)
      const taken = yield* Effect.flip(store.create(alias, { ...entry, roomId: "!other:example.org" as RoomId }))
      assert.strictEqual(taken._tag, "M_ROOM_IN_USE")
      assert.deepStrictEqual(yield* store.aliasesOf(entry.roomId), ["#another:example.org", alias] as never)
      assert.isTrue(yield* store.remove(alias))
      assert.isFalse(yield* store.remove(alias))
      assert.isTrue(Option.isNone(yield* store.find(alias)))
    })
  )

  it.effect(
    "the alias of a room that is not complete is not found, and can be taken after a minute by one other room",
    () =>
      Effect.gen(function* () {
        const store = yield* DirectoryStore
        const half = "#half:example.org" as RoomAlias
        const take = (roomId: string) =>
          store.create(half, { ...entry, roomId: roomId as RoomId, creator: `@${roomId.slice(1)}` as UserId })
        const found = Effect.map(store.find(half), (found) => Option.getOrUndefined(found)?.roomId)
        yield* take("!first:example.org")
        assert.isUndefined(yield* found)
        assert.strictEqual((yield* Effect.flip(take("!second:example.org")))._tag, "M_ROOM_IN_USE")
        yield* TestClock.adjust("2 minutes")
        yield* take("!second:example.org")
        assert.strictEqual((yield* Effect.flip(take("!third:example.org")))._tag, "M_ROOM_IN_USE")
        yield* complete("!second:example.org" as RoomId)
        assert.strictEqual(yield* found, "!second:example.org")
        yield* TestClock.adjust("2 minutes")
        assert.strictEqual((yield* Effect.flip(take("!third:example.org")))._tag, "M_ROOM_IN_USE")
      })
  )

  it.effect(
    "an alias whose room is not complete is free for its creator at once, and for all if its process has ended",
    () =>
      Effect.gen(function* () {
        const store = yield* DirectoryStore
        const sql = yield* SqlClient.SqlClient
        const left = "#left:example.org" as RoomAlias
        const take = (roomId: string, creator: string) =>
          store.create(left, { ...entry, roomId: roomId as RoomId, creator: creator as UserId })
        yield* take("!one:example.org", "@eve:example.org")
        assert.strictEqual((yield* Effect.flip(take("!two:example.org", "@bob:example.org")))._tag, "M_ROOM_IN_USE")
        assert.isTrue(yield* take("!three:example.org", "@eve:example.org"))
        yield* sql`UPDATE room_aliases SET reserved_by = 'greenroom-of-the-past' WHERE alias = ${left}`
        assert.isTrue(yield* take("!four:example.org", "@bob:example.org"))
        yield* complete("!four:example.org" as RoomId)
        yield* sql`UPDATE room_aliases SET reserved_by = 'greenroom-of-the-past' WHERE alias = ${left}`
        for (const creator of ["@bob:example.org", "@eve:example.org"]) {
          assert.strictEqual((yield* Effect.flip(take("!five:example.org", creator)))._tag, "M_ROOM_IN_USE")
        }
      })
  )

  it.effect("an alias is released while its room is not complete", () =>
    Effect.gen(function* () {
      const store = yield* DirectoryStore
      const refused = "#released:example.org" as RoomAlias
      const roomId = "!released:example.org" as RoomId
      yield* store.create(refused, { ...entry, roomId: "!refused:example.org" as RoomId })
      yield* store.release(refused, "!refused:example.org" as RoomId)
      yield* store.create(refused, { ...entry, roomId })
      yield* complete(roomId)
      yield* store.release(refused, roomId)
      assert.strictEqual(Option.getOrThrow(yield* store.find(refused)).roomId, roomId)
    })
  )
})
