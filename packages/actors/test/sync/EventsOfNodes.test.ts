import { PgClient } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import type { ClientEvent } from "@greenroom/protocol/Event"
import * as Database from "@greenroom/store/Database"
import { EventLog } from "@greenroom/store/EventLog"
import { copyDatabase } from "@greenroom/store/testing/Backup"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Exit, Fiber, Latch, Layer, Scope } from "effect"
import { Accounts } from "../../src/account/Accounts.ts"
import { Presences } from "../../src/presence/Presences.ts"
import { Rooms } from "../../src/room/Rooms.ts"
import { Events } from "../../src/sync/Events.ts"
import { bodies, message, numbered, say } from "../room/TestRoom.ts"
import { enrol, guest, node, person } from "../TestHomeServer.ts"
import { endFor, eventsOf, ofType, pollUntil, readAll } from "./TestEvents.ts"

const on = <A, E, R>(context: Context.Context<R>, effect: Effect.Effect<A, E, R>) => Effect.provide(effect, context)

describe("Events of several runs and nodes", () => {
  it.live("a poll that waits on one node ends when the session is logged out on another", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const [here, there] = [yield* node(url), yield* node(url)]
      const alice = yield* on(here, person("alice"))
      const { end } = yield* on(
        there,
        Effect.flatMap(Events, (events) => events.poll(alice, { timeout: 0 }))
      )
      const waiting = yield* Effect.forkChild(
        on(
          there,
          Effect.flatMap(Events, (events) => events.poll(alice, { from: end, timeout: 60_000 }))
        )
      )
      yield* Effect.flatMap(Accounts, (accounts) => accounts.logout(alice)).pipe(Effect.provide(here))
      assert.strictEqual((yield* Effect.flip(Fiber.join(waiting)))._tag, "M_UNKNOWN_TOKEN")
    })
  )

  it.live("presence and typing reach a user on another node", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const [here, there] = [yield* node(url), yield* node(url)]
      const [alice, bob] = [yield* on(here, person("alice")), yield* on(here, person("bob"))]
      const { room_id, token } = yield* Effect.gen(function* () {
        const rooms = yield* Rooms
        const { room_id } = yield* rooms.create(alice, { visibility: "public" })
        yield* rooms.join(bob, room_id)
        return { room_id, token: yield* endFor(bob) }
      }).pipe(Effect.provide(here))
      yield* Effect.gen(function* () {
        yield* (yield* Presences).set(alice, alice.userId, "online", "tea")
        yield* (yield* Rooms).setTyping(alice, room_id, alice.userId, true)
        yield* (yield* Accounts).logout(alice)
      }).pipe(Effect.provide(here))
      const { poll } = yield* Events.pipe(Effect.provide(there))
      const seen: Array<ClientEvent> = []
      let at = token
      while (ofType(seen, "m.presence").length === 0 || !seen.some(({ content }) => `${content.user_ids}` === "")) {
        const chunk = yield* poll(bob, { from: at, timeout: 60_000 })
        seen.push(...eventsOf(chunk))
        at = chunk.end
      }
      const [ofAlice] = ofType(seen, "m.presence").filter(({ content }) => content.user_id === alice.userId)
      assert.deepInclude(ofAlice!.content, { state: "online", status_msg: "tea" })
    })
  )

  it.live("a token of a future that a restored backup does not have is refused", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const bob = guest("bob")
      const { before, lost, room_id } = yield* Effect.gen(function* () {
        const rooms = yield* Rooms
        const { room_id } = yield* rooms.create(bob, {})
        const before = yield* endFor(bob)
        const backup = yield* copyDatabase(url)
        yield* Effect.retry(
          Effect.suspend(() => Effect.sandbox(say(bob, room_id, "lost"))),
          { times: 20 }
        )
        const lost = { stream: yield* endFor(bob), page: (yield* rooms.messages(bob, room_id, {})).start }
        return { before: { token: before, backup }, lost, room_id }
      }).pipe(Effect.provide(yield* node(url)))
      const restored = yield* node(before.backup)
      yield* Effect.gen(function* () {
        const events = yield* Events
        const rooms = yield* Rooms
        for (const body of numbered(30)) yield* say(bob, room_id, body)
        const refusals = [
          yield* Effect.flip(events.poll(bob, { from: lost.stream, timeout: 0 })),
          yield* Effect.flip(events.subscribe(bob, lost.stream)),
          yield* Effect.flip(rooms.messages(bob, room_id, { from: lost.page }))
        ]
        assert.deepStrictEqual(
          refusals.map(({ _tag }) => _tag),
          ["M_BAD_PAGINATION", "M_BAD_PAGINATION", "M_BAD_PAGINATION"]
        )
        assert.deepStrictEqual(bodies(yield* readAll(bob, before.token)), numbered(30))
        assert.lengthOf((yield* events.initialSync(bob)).rooms, 1)
      }).pipe(Effect.provide(restored))
    })
  )

  it.live("a token that a node behind gives back keeps its epoch", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const bob = guest("bob")
      const behind = yield* node(url)
      const isHeld = yield* Latch.make(false)
      const { room_id } = yield* Effect.gen(function* () {
        const { room_id } = yield* (yield* Rooms).create(bob, {})
        yield* endFor(bob)
        yield* (yield* EventLog).follow(() => Effect.andThen(isHeld.open, Effect.never))
        yield* say(bob, room_id, "the last that it reads")
        return { room_id }
      }).pipe(Effect.provide(behind))
      yield* isHeld.await
      const ahead = yield* node(url)
      yield* on(ahead, say(bob, room_id, "of a new epoch"))
      const { poll } = yield* Events.pipe(Effect.provide(ahead))
      const { end } = yield* poll(bob, { timeout: 0 })
      const given = yield* on(
        behind,
        Effect.flatMap(Events, (events) => events.poll(bob, { from: end, timeout: 50 }))
      )
      assert.deepStrictEqual(eventsOf(yield* poll(bob, { from: given.end, timeout: 0 })), [])
    })
  )

  it.live("a token is valid after a restart", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const [alice, bob] = [guest("alice"), guest("bob")]
      const first = yield* Scope.make()
      const { room_id, token } = yield* Effect.gen(function* () {
        const rooms = yield* Rooms
        const { room_id } = yield* rooms.create(alice, { visibility: "public" })
        yield* rooms.join(bob, room_id)
        const token = yield* endFor(bob)
        yield* say(alice, room_id, "before the restart")
        return { room_id, token }
      }).pipe((effect) => Effect.flatMap(Scope.provide(node(url), first), (context) => on(context, effect)))
      yield* Scope.close(first, Exit.void)
      const again = yield* node(url)
      yield* on(again, say(alice, room_id, "after the restart"))
      const read = yield* on(again, readAll(bob, token))
      assert.deepStrictEqual(bodies(read), ["before the restart", "after the restart"])
    })
  )

  it.live("a commit of one node wakes waiting readers on another", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const [here, there] = [yield* node(url), yield* node(url)]
      const [alice, bob] = [guest("alice"), guest("bob")]
      yield* on(here, enrol(bob))
      const { room_id } = yield* on(
        here,
        Effect.flatMap(Rooms, (rooms) => rooms.create(alice, { visibility: "public", invite: [bob.userId] }))
      )
      yield* on(
        here,
        Effect.flatMap(Rooms, (rooms) => rooms.join(bob, room_id))
      )
      const token = yield* on(here, endFor(bob))
      const waiting = yield* Effect.forkChild(on(there, pollUntil(bob, token, 3, 100)))
      yield* on(
        here,
        Effect.forEach(numbered(3), (body) => say(alice, room_id, body))
      )
      assert.deepStrictEqual(bodies(yield* Fiber.join(waiting)), numbered(3))
    })
  )

  it.live("the stream continues after the connections to the database were lost", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const server = yield* node(url)
      const sql = Context.get(
        yield* Layer.build(Layer.fresh(Database.pool({ url, maxConnections: 1 }))),
        PgClient.PgClient
      )
      const alice = guest("alice")
      yield* Effect.gen(function* () {
        const rooms = yield* Rooms
        const { room_id } = yield* rooms.create(alice, {})
        const token = yield* endFor(alice)
        const waiting = yield* Effect.forkChild(pollUntil(alice, token, 30, 4))
        yield* Effect.forEach(numbered(30), (body) =>
          Effect.gen(function* () {
            if (Number(body) % 10 === 5) {
              yield* sql`
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND pid <> pg_backend_pid()`
            }
            const send = rooms.send(alice, room_id, "m.room.message", message(body), body)
            yield* Effect.retry(Effect.sandbox(send), { times: 20 })
          })
        )
        assert.deepStrictEqual(bodies(yield* Fiber.join(waiting)), numbered(30))
      }).pipe(Effect.provide(server))
    })
  )
})
