import { PgConnection } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { RoomId } from "@greenroom/protocol/Identifiers"
import type { ErrorBody } from "@greenroom/protocol/MatrixError"
import type {} from "@greenroom/store/testing/globalSetup"
import { Effect, Layer, Logger, Redacted, Schedule } from "effect"
import { SqlClient } from "effect/sql"
import { inject } from "vitest"
import { connect } from "./socket/TestSocket.ts"
import { ask, createRoom, gateway, inPath, register } from "./TestGateway.ts"

/** The server's log, as lines. */
const captureLog = () => {
  const lines: Array<string> = []
  const logger = Logger.map(Logger.formatLogFmt, (line) => {
    lines.push(line)
  })
  return { lines, layer: Logger.layer([logger]) }
}

/** Runs `ALTER DATABASE` on the database of the test, and ends all connections to it. */
const alterDatabase = Effect.fnUntraced(function* (change: string) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ name: string }>`SELECT current_database() AS name`
  const admin = yield* PgConnection.make({ url: Redacted.make(inject("greenroomPostgres")), prepare: false })
  yield* admin.query(`ALTER DATABASE ${row?.name} ${change}`)
  yield* admin.query(`SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '${row?.name}'`)
}, Effect.scoped)

/** Locks a table, and cancels each statement of this database that waits for it, as an operator would. */
const withCancelled = Effect.fnUntraced(function* <A, E, R>(table: string, effect: () => Effect.Effect<A, E, R>) {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ name: string }>`SELECT current_database() AS name`
  const url = new URL(inject("greenroomPostgres"))
  url.pathname = `/${row?.name}`
  const locking = yield* PgConnection.make({ url: Redacted.make(url.href), prepare: false })
  const cancelling = yield* PgConnection.make({ url: Redacted.make(url.href), prepare: false })
  yield* locking.query("BEGIN")
  yield* locking.query(`LOCK TABLE ${table} IN ACCESS EXCLUSIVE MODE`)
  yield* cancelling
    .query(
      `SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE datname = '${row?.name}' AND wait_event_type = 'Lock'`
    )
    .pipe(Effect.repeat(Schedule.spaced("50 millis")), Effect.forkScoped)
  const result = yield* effect()
  yield* locking.query("ROLLBACK")
  return result
}, Effect.scoped)

describe("an internal error", () => {
  const log = captureLog()

  it.live("is answered with a reference, by which the operator finds it in the log", () =>
    Effect.gen(function* () {
      const alice = yield* register("alice")
      const room = yield* createRoom(alice)
      const sql = yield* SqlClient.SqlClient
      yield* sql`DROP TABLE events CASCADE`
      const answer = yield* ask("GET", `/rooms/${inPath(room)}/messages?access_token=${alice.token}`)
      assert.strictEqual(answer.status, 500)
      assert.strictEqual(answer.body.errcode, "M_UNKNOWN")
      assert.strictEqual(answer.headers.get("access-control-allow-origin"), "*")
      const reference = /^Internal server error, reference (\w+)$/.exec(answer.body.error)?.[1] ?? "none"
      assert.sameMembers(Object.keys(answer.body), ["errcode", "error"])
      const logged = log.lines.filter((line) => line.includes(reference))
      assert.strictEqual(logged.length, 1, log.lines.join("\n"))
      assert.isFalse(log.lines.some((line) => line.includes(alice.token)))
      assert.strictEqual((yield* ask("GET", "/login")).status, 200)
    }).pipe(Effect.provide(Layer.provideMerge(gateway, log.layer)))
  )
})

describe("while the database does not accept connections", () => {
  it.live("requests by HTTP and WebSocket are answered with 503 and the time to retry", () =>
    Effect.gen(function* () {
      const alice = yield* register("alice")
      const room_id = yield* createRoom(alice)
      const socket = yield* connect(alice, "m.json")
      yield* alterDatabase("ALLOW_CONNECTIONS false")
      const messages = yield* ask("GET", `/rooms/${inPath(room_id)}/messages`, { token: alice.token })
      assert.strictEqual(messages.status, 503)
      assert.strictEqual(messages.headers.get("retry-after"), "1")
      assert.strictEqual(messages.body.retry_after_ms, 1_000)
      const send = yield* ask("POST", `/rooms/${inPath(room_id)}/send/m.room.message`, {
        token: alice.token,
        json: { msgtype: "m.text", body: "hello" }
      })
      assert.deepStrictEqual([send.status, send.body.retry_after_ms], [503, 1_000])
      const content = { msgtype: "m.text", body: "hello" }
      yield* socket.ask(1, {
        method: "send",
        params: { room_id: RoomId.make(room_id), type: "m.room.message", content }
      })
      const { error } = (yield* socket.answer) as { readonly error: ErrorBody }
      assert.deepStrictEqual([error.errcode, error.retry_after_ms], ["M_UNKNOWN", 1_000])
      const bob = yield* Effect.flip(connect({ token: `gr_${"x".repeat(43)}` }, "m.json"))
      assert.deepStrictEqual([bob.status, bob.body.retry_after_ms], [503, 1_000])
    }).pipe(Effect.provide(Layer.provideMerge(gateway, Logger.layer([]))))
  )
})

describe("while the disk of the database is full", () => {
  it.live("every message for a busy room is answered with 503", () =>
    Effect.gen(function* () {
      const alice = yield* register("alice")
      const room = yield* createRoom(alice)
      const sql = yield* SqlClient.SqlClient
      yield* sql.unsafe(`
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN RAISE 'no space' USING ERRCODE = '53100'; END $$`)
      yield* sql`CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse()`
      const send = (number: number) =>
        ask("PUT", `/rooms/${inPath(room)}/send/m.room.message/${number}`, {
          token: alice.token,
          json: { msgtype: "m.text", body: "hello" }
        })
      const messages = Array.from({ length: 200 }, (_, number) => number)
      const answers = yield* Effect.forEach(messages, send, { concurrency: 20 })
      assert.deepStrictEqual([...new Set(answers.map(({ status }) => status))], [503])
    }).pipe(Effect.provide(Layer.provideMerge(gateway, Logger.layer([]))))
  )
})

describe("a statement that an operator cancels", () => {
  const log = captureLog()

  it.live("is answered by HTTP and WebSocket as one to repeat, and the log says why", () =>
    Effect.gen(function* () {
      const alice = yield* register("alice")
      const room = yield* createRoom(alice)
      const socket = yield* connect(alice, "m.json")
      yield* withCancelled("events", () =>
        Effect.gen(function* () {
          const { body, headers, status } = yield* ask("GET", `/rooms/${inPath(room)}/messages`, { token: alice.token })
          assert.deepStrictEqual([status, headers.get("retry-after"), body.retry_after_ms], [503, "1", 1_000])
          yield* socket.ask(1, { method: "messages", params: { room_id: RoomId.make(room) } })
          const { error } = (yield* socket.answer) as { readonly error: ErrorBody }
          assert.deepStrictEqual([error.errcode, error.retry_after_ms], ["M_UNKNOWN", 1_000])
        })
      )
      for (const refused of ["A request was refused", "A request of a socket was refused"]) {
        const line = log.lines.find((line) => line.includes(refused)) ?? log.lines.join("\n")
        assert.include(line, "the database did not finish a statement: canceling statement due to user request")
      }
      assert.strictEqual((yield* ask("GET", `/rooms/${inPath(room)}/messages`, { token: alice.token })).status, 200)
    }).pipe(Effect.provide(Layer.provideMerge(gateway, log.layer)))
  )
})

describe("/health", () => {
  const log = captureLog()

  it.live("is 503 while the database does not answer", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* ask("GET", "//health")).status, 200)
      yield* alterDatabase("ALLOW_CONNECTIONS false")
      const health = yield* ask("GET", "//health")
      assert.strictEqual(health.status, 503)
      assert.strictEqual(health.body.ok, false)
      assert.deepNestedPropertyVal(health.body, "checks.database", "does not answer")
    }).pipe(Effect.provide(Layer.provideMerge(gateway, Logger.layer([]))))
  )

  it.live("is 503 from the first event that cannot be stored until the database accepts writes again", () =>
    Effect.gen(function* () {
      const alice = yield* register("alice")
      const send = ask("POST", `/rooms/${inPath(yield* createRoom(alice))}/send/m.room.message`, {
        token: alice.token,
        json: { msgtype: "m.text", body: "hello" }
      })
      yield* alterDatabase("SET default_transaction_read_only = on")
      const refused = yield* send
      assert.deepStrictEqual([refused.status, refused.headers.get("retry-after")], [503, "1"])
      const line = log.lines.find((line) => line.includes("nothing can be stored"))
      assert.match(line ?? "", /nothing can be stored: cannot execute [A-Z() ]+ in a read-only transaction/)
      const health = yield* ask("GET", "//health")
      assert.strictEqual(health.status, 503)
      assert.deepNestedPropertyVal(health.body, "checks.database", "cannot be written to: it is read-only")
      assert.isTrue(log.lines.some((line) => line.includes("Name the primary server")))
      yield* alterDatabase("RESET default_transaction_read_only")
      yield* Effect.repeat(ask("GET", "//health"), {
        until: ({ status }) => status === 200,
        schedule: Schedule.spaced("100 millis")
      })
      assert.strictEqual((yield* send).status, 200)
    }).pipe(Effect.provide(Layer.provideMerge(gateway, log.layer)))
  )
})
