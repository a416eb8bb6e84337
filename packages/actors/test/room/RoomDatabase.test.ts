import { PgClient } from "@effect/sql-pg"
import { assert, describe, it, layer } from "@effect/vitest"
import type { EventId, RoomId } from "@greenroom/protocol/Identifiers"
import * as Database from "@greenroom/store/Database"
import type { EventStore } from "@greenroom/store/EventStore"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Exit, Fiber, Layer, Scope } from "effect"
import { SqlClient } from "effect/sql"
import { Rooms } from "../../src/room/Rooms.ts"
import type { Session } from "../../src/runtime/Session.ts"
import { guest, layer as homeServer, node } from "../TestHomeServer.ts"
import { assertOneChain, bodies, message, numbered, timeline } from "./TestRoom.ts"

/** Two nodes on one database, and a room that was made on the first. */
const twoNodes = Effect.gen(function* () {
  const url = yield* TestDatabase.url
  const nodes = [yield* node(url), yield* node(url)]
  const on = <A, E>(index: number, effect: Effect.Effect<A, E, Rooms | EventStore>) =>
    Effect.provide(effect, nodes[index]!)
  const alice = guest("alice")
  const { room_id } = yield* on(
    0,
    Effect.flatMap(Rooms, (rooms) => rooms.create(alice, {}))
  )
  return { alice, on, room_id }
})

layer(homeServer, { excludeTestServices: true })("Room and its database", (it) => {
  it.effect("an event that the database refuses fails alone", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const sql = yield* SqlClient.SqlClient
      const alice = guest("alice")
      const { room_id } = yield* rooms.create(alice, {})
      const neighbour = yield* rooms.create(alice, {})
      yield* sql`ALTER TABLE events ADD CONSTRAINT no_poison CHECK (body NOT LIKE '%poison%')`
      const send = (roomId: RoomId, body: string, txnId?: string) =>
        Effect.exit(rooms.send(alice, roomId, "m.room.message", message(body), txnId))
      const exits = yield* Effect.all(
        [
          send(room_id, "before"),
          send(room_id, "poison"),
          send(room_id, "after"),
          send(room_id, "poison with an ID", "1"),
          send(room_id, "at last", "2"),
          send(neighbour.room_id, "beside")
        ],
        { concurrency: "unbounded" }
      )
      yield* sql`ALTER TABLE events DROP CONSTRAINT no_poison`
      assert.deepStrictEqual(exits.map(Exit.isSuccess), [true, false, true, false, true, true])
      assert.deepStrictEqual(bodies(yield* timeline(alice, neighbour.room_id)), ["beside"])
      assert.deepStrictEqual(new Set(bodies(yield* timeline(alice, room_id))), new Set(["before", "after", "at last"]))
      assert.isTrue(Exit.isSuccess(yield* send(room_id, "poison with an ID", "1")), "a failure is not remembered")
      yield* assertOneChain(alice, room_id)
    })
  )

  it.effect("a request during a database failure fails, and later ones find the room unchanged", () =>
    Effect.gen(function* () {
      const rooms = yield* Rooms
      const sql = yield* SqlClient.SqlClient
      const alice = guest("alice")
      const { room_id } = yield* rooms.create(alice, {})
      const send = (session: Session, body: string) =>
        Effect.exit(rooms.send(session, room_id, "m.room.message", message(body), body))
      assert.isTrue(Exit.isSuccess(yield* send(alice, "before")))
      yield* sql`ALTER TABLE client_transactions RENAME TO elsewhere`
      const broken = yield* Effect.forEach(numbered(8), (body) => send(guest("alice"), body), { concurrency: 8 })
      assert.isTrue(broken.every(Exit.isFailure))
      yield* sql`ALTER TABLE elsewhere RENAME TO client_transactions`
      const mended = yield* Effect.forEach(numbered(8), (body) => send(alice, body), { concurrency: 8 })
      assert.isTrue(mended.every(Exit.isSuccess))
      assert.sameMembers(bodies(yield* timeline(alice, room_id)), ["before", ...numbered(8)])
      yield* assertOneChain(alice, room_id)
    })
  )
})

describe("Room and its database", () => {
  it.live("after lost connections acknowledged events are stored once, and a retry stores the others", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const server = yield* node(url)
      const sql = Context.get(
        yield* Layer.build(Layer.fresh(Database.pool({ url, maxConnections: 1 }))),
        PgClient.PgClient
      )
      const endConnections = sql`
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid()`
      yield* Effect.gen(function* () {
        const rooms = yield* Rooms
        const alice = guest("alice")
        const { room_id } = yield* rooms.create(alice, {})
        const acknowledged = new Map<string, EventId>()
        const send = (index: string) =>
          Effect.exit(
            Effect.tap(rooms.send(alice, room_id, "m.room.message", message(index), index), ({ event_id }) =>
              Effect.sync(() => {
                const before = acknowledged.get(index)
                assert.isTrue(before === undefined || before === event_id, "a retry gets the first answer")
                acknowledged.set(index, event_id)
              })
            )
          )
        const all = numbered(200)
        yield* Effect.all(
          [
            Effect.forEach(all, send, { concurrency: 20 }),
            Effect.forEach(numbered(5), () =>
              Effect.andThen(endConnections, Effect.repeat(Effect.yieldNow, { times: 200 }))
            )
          ],
          { concurrency: 2 }
        )
        const first = new Map(acknowledged)
        let rounds = 0
        while (acknowledged.size < all.length && rounds++ < 20) {
          yield* Effect.forEach(
            all.filter((index) => !acknowledged.has(index)),
            send,
            { concurrency: 20 }
          )
        }
        yield* Effect.forEach(all, send, { concurrency: 20 })
        for (const [index, id] of first) assert.strictEqual(acknowledged.get(index), id)
        const events = (yield* timeline(alice, room_id)).filter(({ type }) => type === "m.room.message")
        assert.deepStrictEqual(new Set(bodies(events)), new Set(all))
        assert.lengthOf(events, all.length)
        for (const { content, event_id } of events) assert.strictEqual(acknowledged.get(String(content.body)), event_id)
        yield* assertOneChain(alice, room_id)
      }).pipe(Effect.provide(server))
    })
  )

  it.live("two nodes that both believe they own a room make one chain of their events", () =>
    Effect.gen(function* () {
      const { alice, on, room_id } = yield* twoNodes
      const send = (index: number, txnId: string) =>
        on(
          index,
          Effect.flatMap(Rooms, (rooms) => rooms.send(alice, room_id, "m.room.message", message(txnId), txnId))
        )
      for (const txnId of numbered(10)) {
        const [here, there] = [yield* send(Number(txnId) % 2, txnId), yield* send((Number(txnId) + 1) % 2, txnId)]
        assert.deepStrictEqual(here, there, "a retry on another node gets the first answer")
      }
      assert.deepStrictEqual(bodies(yield* on(0, timeline(alice, room_id))), numbered(10))
      yield* on(1, assertOneChain(alice, room_id))
    })
  )

  it.live("two nodes that keep taking a room from each other lose and repeat no event", () =>
    Effect.gen(function* () {
      const { alice, on, room_id } = yield* twoNodes
      const send = (body: string, index: number) =>
        Effect.exit(
          on(
            index % 2,
            Effect.flatMap(Rooms, (rooms) => rooms.send(alice, room_id, "m.room.message", message(body), body))
          )
        )
      const all = numbered(120)
      yield* Effect.forEach(all, send, { concurrency: 12 })
      // Requests that gave up meanwhile are repeated, as clients do.
      yield* Effect.forEach(all, send)
      const seen = bodies(yield* on(0, timeline(alice, room_id)))
      assert.deepStrictEqual(new Set(seen), new Set(all))
      assert.lengthOf(seen, all.length)
      yield* on(1, assertOneChain(alice, room_id))
    })
  )

  it.live("a server that stops finishes the requests in flight", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const scope = yield* Scope.make()
      const first = yield* Scope.provide(node(url), scope)
      const alice = guest("alice")
      const { room_id } = yield* Effect.provide(
        Effect.flatMap(Rooms, (rooms) => rooms.create(alice, {})),
        first
      )
      const acknowledged = new Set<string>()
      const all = numbered(100)
      const sending = yield* Effect.forkChild(
        Effect.forEach(
          all,
          (body) =>
            Effect.exit(
              Effect.flatMap(Rooms, (rooms) => rooms.send(alice, room_id, "m.room.message", message(body))).pipe(
                Effect.tap(() => Effect.sync(() => acknowledged.add(body)))
              )
            ),
          { concurrency: 10 }
        ).pipe(Effect.provide(first))
      )
      while (acknowledged.size < 10) yield* Effect.yieldNow
      yield* Scope.close(scope, Exit.void)
      yield* Fiber.interrupt(sending)
      const again = yield* node(url)
      const seen = bodies(yield* Effect.provide(timeline(alice, room_id), again))
      assert.strictEqual(new Set(seen).size, seen.length)
      assert.includeMembers(seen, [...acknowledged])
      yield* Effect.provide(assertOneChain(alice, room_id), again)
    })
  )
})
