/**
 * Backups of a database for tests: a copy within the same PostgreSQL, while the server runs, and what `pg_dump` writes and
 * another database cluster reads (its programs do not come with the embedded PostgreSQL).
 */
import { randomUUID } from "node:crypto"
import { PgConnection } from "@effect/sql-pg"
import { Effect, Redacted, type Scope } from "effect"
import type { SqlClient, SqlError } from "effect/sql"

const databaseOf = (url: Redacted.Redacted): string => new URL(Redacted.value(url)).pathname.slice(1)

const withDatabase = (url: Redacted.Redacted, name: string): Redacted.Redacted => {
  const other = new URL(Redacted.value(url))
  other.pathname = `/${name}`
  return Redacted.make(other.href)
}

/**
 * A copy of the database as it is at one instant. Its connections are lost for that instant, which a server survives.
 * Dropped at the end.
 */
export const copyDatabase = Effect.fnUntraced(function* (
  url: Redacted.Redacted
): Effect.fn.Return<Redacted.Redacted, SqlError.SqlError, Scope.Scope> {
  const admin = yield* PgConnection.make({ url: withDatabase(url, "postgres"), prepare: false })
  const name = databaseOf(url)
  const copy = `copy_${randomUUID().replaceAll("-", "")}`
  yield* admin.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS false`)
  yield* admin.query("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = $1", [name])
  yield* Effect.acquireRelease(admin.query(`CREATE DATABASE ${copy} TEMPLATE ${name}`), () =>
    Effect.orDie(admin.query(`DROP DATABASE IF EXISTS ${copy} WITH (FORCE)`))
  )
  yield* admin.query(`ALTER DATABASE ${name} ALLOW_CONNECTIONS true`)
  return withDatabase(url, copy)
})

/** Writes the rows and sequences of one database to another one with the same tables, as a restored dump has them. */
export const restoreDump = Effect.fnUntraced(function* (from: SqlClient.SqlClient, to: SqlClient.SqlClient) {
  const tables = yield* from<{ name: string; columns: string }>`
    SELECT table_name::text AS name, string_agg(quote_ident(column_name), ', ') AS columns
    FROM information_schema.columns WHERE table_schema = 'public' AND is_generated = 'NEVER' GROUP BY table_name`
  const sequences = yield* from<{ name: string; value: bigint }>`
    SELECT sequencename AS name, last_value AS value FROM pg_sequences
    WHERE schemaname = 'public' AND last_value IS NOT NULL`
  yield* to.withTransaction(
    Effect.gen(function* () {
      yield* to`SET LOCAL session_replication_role = replica`
      for (const { columns, name } of tables) {
        const [row] = yield* from<{ rows: string }>`
          SELECT coalesce(json_agg(row), '[]')::text AS rows FROM ${from.literal(name)} AS row`
        yield* to`DELETE FROM ${to.literal(name)}`
        yield* to`
          INSERT INTO ${to.literal(name)} (${to.literal(columns)}) OVERRIDING SYSTEM VALUE
          SELECT ${to.literal(columns)} FROM json_populate_recordset(NULL::${to.literal(name)}, ${row!.rows}::json)`
      }
      for (const { name, value } of sequences) yield* to`SELECT setval(${name}::regclass, ${value})`
    })
  )
})
