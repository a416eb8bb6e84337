/**
 * The database of an identity server: its own tables, on a PostgreSQL of the operator or on an embedded one in the data
 * directory. Several nodes may start on the same database at once.
 */
import type { PgClient } from "@effect/sql-pg"
import { type AppliedMigration, migrationsProblem } from "@greenroom/store/AppliedMigrations"
import type { DatabaseOptions } from "@greenroom/store/Database"
import * as Database from "@greenroom/store/Database"
import { checkRequirements, type DatabaseUnsuitable } from "@greenroom/store/DatabaseRequirements"
import { EmbeddedPostgres } from "@greenroom/store/EmbeddedPostgres"
import type { EmbeddedPostgresError } from "@greenroom/store/EmbeddedPostgresError"
import { Data, Effect, Layer, Option, type Redacted } from "effect"
import { Migrator, SqlClient, type SqlError } from "effect/sql"
import identityServer from "./migrations/0001_identity_server.ts"
import accounts from "./migrations/0002_accounts.ts"
import tokenUse from "./migrations/0003_token_use.ts"

/** Every migration, in the order of its number. They go forward only. */
const migrations = {
  "0001_identity_server": identityServer,
  "0002_accounts": accounts,
  "0003_token_use": tokenUse
}

/** The database belongs to another program, or to a newer version. */
export class WrongDatabase extends Data.TaggedError("WrongDatabase")<{ readonly message: string }> {}

type IdentityDatabaseError =
  | SqlError.SqlError
  | Migrator.MigrationError
  | WrongDatabase
  | DatabaseUnsuitable
  | Database.DatabaseUnreachable

/** "identity" in the bytes of ASCII: the advisory lock that one migrating node holds. */
const migrationLock = 0x6964656e74697479n

const refuseHomeServer = Effect.fnUntraced(function* (sql: SqlClient.SqlClient) {
  const rows = yield* sql`SELECT 1 WHERE to_regclass('events') IS NOT NULL`
  if (rows.length > 0) {
    yield* new WrongDatabase({
      message: "--database-url: the database belongs to a home server: give the identity server one of its own."
    })
  }
})

/** Refuses a database whose migrations are not the first ones of this program. */
const checkApplied = Effect.fnUntraced(function* (sql: SqlClient.SqlClient) {
  const [found] = yield* sql<{ there: boolean }>`SELECT to_regclass('identity_migrations') IS NOT NULL AS there`
  if (found?.there !== true) return
  const applied = yield* sql<AppliedMigration>`SELECT migration_id AS id, name FROM identity_migrations`
  const problem = migrationsProblem(applied, Object.keys(migrations))
  if (problem === undefined) return
  return yield* new WrongDatabase({ message: `--database-url: The database ${problem.found}. ${problem.remedy}` })
})

/** Applies the missing migrations, in one transaction. */
export const migrate: Effect.Effect<void, IdentityDatabaseError, SqlClient.SqlClient> = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql.withTransaction(
    Effect.gen(function* () {
      yield* checkRequirements
      yield* sql`SELECT pg_advisory_xact_lock(${migrationLock})`
      yield* refuseHomeServer(sql)
      yield* checkApplied(sql)
      yield* Migrator.make({})({ loader: Migrator.fromRecord(migrations), table: "identity_migrations" })
    })
  )
})

type Clients = PgClient.PgClient | SqlClient.SqlClient

const migrated = (
  url: Redacted.Redacted,
  maxConnections: number | undefined
): Layer.Layer<Clients, IdentityDatabaseError> =>
  Layer.effectDiscard(migrate).pipe(
    Layer.provideMerge(Database.pool({ url, maxConnections })),
    Database.namingUnreachable(url)
  )

/** The database that the operator chose: `databaseUrl` if given, else the embedded server in `dataDir`. */
export const layer = (options: DatabaseOptions): Layer.Layer<Clients, IdentityDatabaseError | EmbeddedPostgresError> =>
  Option.match(Option.fromNullishOr(options.databaseUrl), {
    onSome: (url) => migrated(url, options.maxConnections),
    onNone: () =>
      Layer.unwrap(Effect.map(EmbeddedPostgres, ({ url }) => migrated(url, options.maxConnections))).pipe(
        Layer.provide(EmbeddedPostgres.layer({ dataDir: options.dataDir }))
      )
  })
