import { PgConnection } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import type {} from "@greenroom/store/testing/globalSetup"
import { Effect, Layer, Logger, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import { inject } from "vitest"
import { ask, createRoom, gateway, inPath, register } from "./TestGateway.ts"

/** The server's log, as lines. */
const captureLog = () => {
  const lines: Array<string> = []
  const logger = Logger.map(Logger.formatLogFmt, (line) => {
    lines.push(line)
  })
  return { lines, layer: Logger.layer([logger]) }
}

/** Nobody can connect to this test's database any more, and who is connected is thrown out. */
const shutDatabase = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [row] = yield* sql<{ name: string }>`SELECT current_database() AS name`
  const admin = yield* PgConnection.make({ url: Redacted.make(inject("greenroomPostgres")), prepare: false })
  yield* admin.query(`ALTER DATABASE ${row?.name} ALLOW_CONNECTIONS false`)
  yield* admin.query(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${row?.name}'`)
}).pipe(Effect.scoped)

describe("a failure inside", () => {
  const log = captureLog()

  it.live("is told by a reference alone, by which the operator finds it in the log", () =>
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

describe("/health", () => {
  it.live("is 503 while the database does not answer", () =>
    Effect.gen(function* () {
      assert.strictEqual((yield* ask("GET", "//health")).status, 200)
      yield* shutDatabase
      const health = yield* ask("GET", "//health")
      assert.strictEqual(health.status, 503)
      assert.strictEqual(health.body.ok, false)
      assert.deepNestedPropertyVal(health.body, "checks.database", "does not answer")
    }).pipe(Effect.provide(Layer.provideMerge(gateway, Logger.layer([]))))
  )
})
