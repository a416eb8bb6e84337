import * as os from "node:os"
import { PgConnection } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, type Redacted } from "effect"
import { SqlClient } from "effect/sql"
import * as Database from "../src/Database.ts"
import { DatabaseHold } from "../src/DatabaseHold.ts"
import * as CuttableDatabase from "../src/testing/CuttableDatabase.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

/** A home server's connections to the database, until the scope closes. */
const start = Effect.fnUntraced(function* (databaseUrl: Redacted.Redacted) {
  const services = yield* Layer.build(Database.exclusiveLayer({ databaseUrl, dataDir: "unused" }))
  return { hold: Context.get(services, DatabaseHold), sql: Context.get(services, SqlClient.SqlClient) }
})

const terminate = Effect.fnUntraced(function* (url: Redacted.Redacted, names: string) {
  const connection = yield* PgConnection.make({ url })
  yield* connection.query(
    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database() AND application_name ~ $1",
    [names]
  )
}, Effect.scoped)

/** Waits until some process holds the database. */
const held = Effect.fnUntraced(function* (url: Redacted.Redacted) {
  const connection = yield* PgConnection.make({ url })
  const holders = connection.query(
    `SELECT 1 FROM pg_stat_activity JOIN pg_locks USING (pid)
     WHERE datname = current_database() AND application_name ~ '^greenroom-holder-' AND locktype = 'advisory' AND granted`
  )
  while ((yield* holders).rows.length === 0) yield* Effect.sleep("20 millis")
}, Effect.scoped)

describe("DatabaseHold", () => {
  it.live("a second process is refused, with a line that names the first", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      yield* start(url)
      const error = yield* Effect.flip(start(url))
      assert.strictEqual(error._tag, "DatabaseInUse")
      assert.match(
        error.message,
        new RegExp(
          `^Process ${process.pid} on ${os.hostname()}, another Greenroom, uses this database since 20.*Z: stop it first, or choose another database\\.$`
        )
      )
      const check = Database.checkFree({ databaseUrl: url, dataDir: "unused" })
      assert.strictEqual((yield* Effect.flip(check)).message, error.message)
    }).pipe(Effect.scoped)
  )

  it.effect("the next process has the database as soon as the first has ended", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      yield* Effect.scoped(start(url))
      yield* Effect.scoped(start(url))
      yield* Database.checkFree({ databaseUrl: url, dataDir: "unused" })
    }).pipe(Effect.scoped)
  )

  it.live("a holder that loses its connections reconnects and still holds the database", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const { sql } = yield* start(url)
      yield* terminate(url, "^greenroom-")
      // The pool may be back before the holder, which ends last.
      yield* held(url)
      yield* Effect.retry(sql`SELECT 1`, { times: 100 })
      assert.strictEqual((yield* Effect.flip(start(url)))._tag, "DatabaseInUse")
    }).pipe(Effect.scoped)
  )

  it.live("a holder that was cut off while another took over writes nothing more, and ends", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const way = yield* CuttableDatabase.make(url)
      const first = yield* start(way.url)
      yield* way.cut
      const second = yield* start(url)
      yield* way.mend
      const lost = yield* Effect.flip(first.hold.lost)
      assert.strictEqual(lost._tag, "DatabaseTakenOver")
      const write = first.sql`INSERT INTO users (user_id, created_at) VALUES ('@late:example.org', 1)`
      assert.strictEqual((yield* Effect.flip(write))._tag, "SqlError")
      assert.deepStrictEqual(yield* second.sql`SELECT user_id FROM users`, [])
    }).pipe(Effect.scoped)
  )

  it.live("connections that a former holder still has are ended when another takes over", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const way = yield* CuttableDatabase.make(url)
      const first = yield* start(way.url)
      const pid = first.sql<{ pid: number }>`SELECT pg_backend_pid() AS pid`
      const [before] = yield* pid
      // The former holder cannot connect again.
      yield* way.refuse
      yield* terminate(url, "^greenroom-holder-")
      const second = yield* start(url)
      const alive = yield* second.sql`SELECT 1 FROM pg_stat_activity WHERE pid = ${before!.pid}`
      assert.deepStrictEqual(alive, [])
    }).pipe(Effect.scoped)
  )
})
