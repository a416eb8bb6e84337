import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Layer, Logger, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { connect } from "./socket/TestSocket.ts"
import { ask, createRoom, gateway, inPath, register, serverName, type TestUser } from "./TestGateway.ts"

/** Locks a table while `interrupted` starts a change that waits for the lock, then interrupts it. */
const whileHeld = Effect.fnUntraced(function* <E, R>(table: string, interrupted: Effect.Effect<void, E, R>) {
  const sql = yield* SqlClient.SqlClient
  const blocked = sql`
    SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE NOT granted AND datname = current_database()`
  yield* sql.withTransaction(
    Effect.gen(function* () {
      yield* sql`LOCK TABLE ${sql(table)} IN EXCLUSIVE MODE`
      const client = yield* Effect.forkChild(interrupted)
      yield* Effect.repeat(blocked, { until: (rows) => rows.length > 0, schedule: Schedule.spaced("10 millis") })
      yield* Fiber.interrupt(client)
      // Once this is answered, the server has seen the client disconnect.
      assert.strictEqual((yield* ask("GET", "/login")).status, 200)
    })
  )
})

const readState = (user: TestUser, room: string, key: string) =>
  Effect.map(ask("GET", `/rooms/${inPath(room)}/state/${key}`, { token: user.token }), ({ body }) => body)

const stateBecomes = (
  user: TestUser,
  room: string,
  key: string,
  matches: (content: Record<string, unknown>) => boolean
) => Effect.repeat(readState(user, room, key), { until: matches, schedule: Schedule.spaced("20 millis") })

describe("a change whose client disconnects", () => {
  it.live("still brings a new display name to the rooms of the user", () =>
    Effect.gen(function* () {
      const alice = yield* register("alice")
      const room = yield* createRoom(alice)
      yield* whileHeld(
        "profile_fields",
        ask("PUT", `/profile/${inPath(alice.id)}/displayname`, {
          token: alice.token,
          json: { displayname: "Alice" }
        })
      )
      yield* stateBecomes(
        alice,
        room,
        `m.room.member/${inPath(alice.id)}`,
        ({ displayname }) => displayname === "Alice"
      )
    }).pipe(Effect.provide(Layer.provideMerge(gateway, Logger.layer([]))))
  )

  it.live("still announces a new alias in its room", () =>
    Effect.gen(function* () {
      const alice = yield* register("alice")
      const room = yield* createRoom(alice)
      const alias = `#tea:${serverName}`
      yield* whileHeld(
        "room_aliases",
        ask("PUT", `/directory/room/${inPath(alias)}`, { token: alice.token, json: { room_id: room } })
      )
      yield* stateBecomes(alice, room, `m.room.aliases/${serverName}`, ({ aliases }) => String(aliases) === alias)
    }).pipe(Effect.provide(Layer.provideMerge(gateway, Logger.layer([]))))
  )

  it.live("still runs to its end if it was requested by WebSocket", () =>
    Effect.gen(function* () {
      const alice = yield* register("alice")
      const room = yield* createRoom(alice)
      yield* whileHeld(
        "profile_fields",
        Effect.scoped(
          Effect.gen(function* () {
            const { ask } = yield* connect(alice, "m.json")
            yield* ask(1, { method: "profile", params: { field: "displayname", value: "Alice" } })
            return yield* Effect.never
          })
        )
      )
      yield* stateBecomes(
        alice,
        room,
        `m.room.member/${inPath(alice.id)}`,
        ({ displayname }) => displayname === "Alice"
      )
    }).pipe(Effect.provide(Layer.provideMerge(gateway, Logger.layer([]))))
  )
})
