/**
 * The database of a home server: a pool of connections with the migrations applied. Several nodes may start on the
 * same database at once, one of them migrates and the others wait.
 *
 * Notes for SQL here: `bigint` columns arrive as `bigint`, `bytea` as `Uint8Array`, `text[]` as an
 * array; a string parameter takes the type that the statement gives it. An array of numbers must be all 32 bits or
 * all larger, so write arrays by `PgArrays`.
 *
 * PostgreSQL's text holds no NUL and no lone surrogates. Identifiers, event types, state keys, transaction IDs and names
 * of profile fields are checked by their schemas in `protocol`, before anything reaches the store; free text (event
 * bodies, profile values, status messages, device names) is stored as JSON, which escapes them.
 */
import type * as PgClient from "@effect/sql-pg/PgClient"
import * as Context from "effect/Context"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Migrator from "effect/sql/Migrator"
import * as SqlClient from "effect/sql/SqlClient"
import * as SqlError from "effect/sql/SqlError"
import { type AppliedMigration, migrationsProblem } from "./AppliedMigrations.ts"
import { DatabaseHold, type DatabaseInUse, type HoldMode } from "./DatabaseHold.ts"
import { databaseRemedy } from "./DatabaseRemedy.ts"
import { checkRequirements, DatabaseUnsuitable } from "./DatabaseRequirements.ts"
import { EmbeddedPostgres } from "./EmbeddedPostgres.ts"
import type { EmbeddedPostgresError } from "./EmbeddedPostgresError.ts"
import { backFillEventAuth } from "./internal/backFills.ts"
import { checkUnlocked } from "./internal/directoryLock.ts"
import * as PooledClient from "./internal/PooledClient.ts"
import { checkRestored, unfinishedTable } from "./UnfinishedRestore.ts"

/** Every migration, in the order of its number, loaded where it is missing. They go forward only. */
const migrations = {
  "0001_home_server": () => import("./migrations/0001_home_server.ts"),
  "0003_federation": () => import("./migrations/0003_federation.ts"),
  "0004_outgoing_transactions": () => import("./migrations/0004_outgoing_transactions.ts"),
  "0005_logins": () => import("./migrations/0005_logins.ts"),
  "0006_joined_depth": () => import("./migrations/0006_joined_depth.ts"),
  "0007_third_party_invites": () => import("./migrations/0007_third_party_invites.ts"),
  "0008_devices": () => import("./migrations/0008_devices.ts"),
  "0009_database_holder": () => import("./migrations/0009_database_holder.ts"),
  "0010_refused_transactions": () => import("./migrations/0010_refused_transactions.ts"),
  "0011_event_auth": () => import("./migrations/0011_event_auth.ts"),
  "0012_openid_tokens": () => import("./migrations/0012_openid_tokens.ts"),
  "0013_user_data": () => import("./migrations/0013_user_data.ts"),
  "0014_log": () => import("./migrations/0014_log.ts"),
  "0015_key_notaries": () => import("./migrations/0015_key_notaries.ts"),
  "0016_sync": () => import("./migrations/0016_sync.ts"),
  "0017_room_visibility": () => import("./migrations/0017_room_visibility.ts"),
  "0018_relations": () => import("./migrations/0018_relations.ts"),
  "0019_log_epochs": () => import("./migrations/0019_log_epochs.ts"),
  "0020_forgotten_rooms_and_reports": () => import("./migrations/0020_forgotten_rooms_and_reports.ts"),
  "0021_creations": () => import("./migrations/0021_creations.ts"),
  "0022_short_lived": () => import("./migrations/0022_short_lived.ts"),
  "0023_device_keys": () => import("./migrations/0023_device_keys.ts"),
  "0024_key_backups": () => import("./migrations/0024_key_backups.ts"),
  "0025_outgoing_edus": () => import("./migrations/0025_outgoing_edus.ts"),
  "0026_media": () => import("./migrations/0026_media.ts"),
  "0027_account_standings": () => import("./migrations/0027_account_standings.ts"),
  "0028_address_validations": () => import("./migrations/0028_address_validations.ts"),
  "0029_oauth": () => import("./migrations/0029_oauth.ts"),
  "0030_push_counts": () => import("./migrations/0030_push_counts.ts"),
  "0031_pushers": () => import("./migrations/0031_pushers.ts"),
  "0032_search": () => import("./migrations/0032_search.ts"),
  "0033_sliding_sync": () => import("./migrations/0033_sliding_sync.ts"),
  "0034_presence_denials": () => import("./migrations/0034_presence_denials.ts"),
  "0035_alias_creators": () => import("./migrations/0035_alias_creators.ts"),
  "0036_unfinished_memberships": () => import("./migrations/0036_unfinished_memberships.ts"),
  "0037_unverified_state": () => import("./migrations/0037_unverified_state.ts"),
  "0038_app_services": () => import("./migrations/0038_app_services.ts"),
  "0039_policy_key": () => import("./migrations/0039_policy_key.ts"),
  "0040_audit": () => import("./migrations/0040_audit.ts"),
  "0041_room_administration": () => import("./migrations/0041_room_administration.ts"),
  "0042_bans": () => import("./migrations/0042_bans.ts"),
  "0043_data_exports": () => import("./migrations/0043_data_exports.ts"),
  "0044_shard_fences": () => import("./migrations/0044_shard_fences.ts"),
  "0045_app_service_rooms": () => import("./migrations/0045_app_service_rooms.ts"),
  "0046_guests": () => import("./migrations/0046_guests.ts"),
  "0047_delayed_events": () => import("./migrations/0047_delayed_events.ts"),
  "0048_erasures": () => import("./migrations/0048_erasures.ts"),
  "0049_dehydrated_devices": () => import("./migrations/0049_dehydrated_devices.ts"),
  "0050_contacts": () => import("./migrations/0050_contacts.ts"),
  "0051_registration_approval": () => import("./migrations/0051_registration_approval.ts"),
  "0052_device_names": () => import("./migrations/0052_device_names.ts"),
  "0053_email_pushers": () => import("./migrations/0053_email_pushers.ts"),
  "0054_server_notices": () => import("./migrations/0054_server_notices.ts"),
  "0055_push_pruning": () => import("./migrations/0055_push_pruning.ts"),
  "0056_session_signals": () => import("./migrations/0056_session_signals.ts"),
  "0057_running_counts": () => import("./migrations/0057_running_counts.ts"),
  "0058_device_settings": () => import("./migrations/0058_device_settings.ts"),
  "0059_timeline_gaps": () => import("./migrations/0059_timeline_gaps.ts"),
  "0060_destination_dialects": () => import("./migrations/0060_destination_dialects.ts"),
  "0061_policy_verdicts": () => import("./migrations/0061_policy_verdicts.ts"),
  "0062_user_directory": () => import("./migrations/0062_user_directory.ts"),
  "0063_remote_device_lists": () => import("./migrations/0063_remote_device_lists.ts"),
  "0064_device_updates": () => import("./migrations/0064_device_updates.ts"),
  "0065_app_service_session_ends": () => import("./migrations/0065_app_service_session_ends.ts"),
  "0066_shard_holders": () => import("./migrations/0066_shard_holders.ts"),
  "0067_validation_purposes": () => import("./migrations/0067_validation_purposes.ts"),
  "0068_keyless_devices": () => import("./migrations/0068_keyless_devices.ts"),
  "0069_devices_of_joins": () => import("./migrations/0069_devices_of_joins.ts"),
  "0070_cheaper_writes": () => import("./migrations/0070_cheaper_writes.ts"),
  "0071_room_push_actions": () => import("./migrations/0071_room_push_actions.ts"),
  "0072_backup_sizes": () => import("./migrations/0072_backup_sizes.ts"),
  "0073_refresh_families": () => import("./migrations/0073_refresh_families.ts"),
  "0074_upload_counts": () => import("./migrations/0074_upload_counts.ts"),
  "0075_tokens_of_users": () => import("./migrations/0075_tokens_of_users.ts"),
  "0076_media_chunks": () => import("./migrations/0076_media_chunks.ts"),
  "0077_identity_bindings": () => import("./migrations/0077_identity_bindings.ts"),
  "0078_key_count_changes": () => import("./migrations/0078_key_count_changes.ts"),
  "0079_user_redactions": () => import("./migrations/0079_user_redactions.ts"),
  "0080_delayed_event_retries": () => import("./migrations/0080_delayed_event_retries.ts"),
  "0081_history_states": () => import("./migrations/0081_history_states.ts"),
  "0082_cross_signing_updates": () => import("./migrations/0082_cross_signing_updates.ts"),
  "0083_id_token_key": () => import("./migrations/0083_id_token_key.ts"),
  "0084_unfinished_membership_retries": () => import("./migrations/0084_unfinished_membership_retries.ts"),
  "0085_user_signing_changes": () => import("./migrations/0085_user_signing_changes.ts"),
  "0086_former_access_tokens": () => import("./migrations/0086_former_access_tokens.ts"),
  "0087_unfinished_upgrades": () => import("./migrations/0087_unfinished_upgrades.ts"),
  "0088_early_receipts": () => import("./migrations/0088_early_receipts.ts"),
  "0089_outgoing_mails": () => import("./migrations/0089_outgoing_mails.ts"),
  "0090_app_service_devices": () => import("./migrations/0090_app_service_devices.ts"),
  "0091_tombstones_of_upgrades": () => import("./migrations/0091_tombstones_of_upgrades.ts"),
  "0092_delayed_event_times": () => import("./migrations/0092_delayed_event_times.ts"),
  "0093_outgoing_receipts": () => import("./migrations/0093_outgoing_receipts.ts"),
  "0094_rooms_of_outgoing_receipts": () => import("./migrations/0094_rooms_of_outgoing_receipts.ts"),
  "0095_former_presence": () => import("./migrations/0095_former_presence.ts"),
  "0096_account_rates": () => import("./migrations/0096_account_rates.ts"),
  "0097_threads": () => import("./migrations/0097_threads.ts"),
  "0098_receipts_of_threads": () => import("./migrations/0098_receipts_of_threads.ts"),
  "0099_audited_work": () => import("./migrations/0099_audited_work.ts"),
  "0100_stored_appearances": () => import("./migrations/0100_stored_appearances.ts"),
  "0101_ended_accounts": () => import("./migrations/0101_ended_accounts.ts"),
  "0102_protected_media": () => import("./migrations/0102_protected_media.ts"),
  "0103_alias_reservations": () => import("./migrations/0103_alias_reservations.ts"),
  "0104_waiting_events": () => import("./migrations/0104_waiting_events.ts"),
  "0105_withheld_redactions": () => import("./migrations/0105_withheld_redactions.ts"),
  "0106_epochs_without_start": () => import("./migrations/0106_epochs_without_start.ts"),
  "0107_unverified_copies": () => import("./migrations/0107_unverified_copies.ts")
}

/** The names of all migrations, such as `0003_federation`. */
export const migrationNames: ReadonlyArray<string> = Object.keys(migrations)

/** The version of the database that this program writes. */
export const newestMigration = Math.max(...migrationNames.map((name) => Number.parseInt(name, 10)))

/** The database was written by a newer version of Greenroom, which may have changed what this one relies on. */
export class DatabaseTooNew extends Data.TaggedError("DatabaseTooNew")<{ readonly message: string }> {}

/** The database cannot be reached, or refuses the connection. The message names the database, never its password. */
export class DatabaseUnreachable extends Data.TaggedError("DatabaseUnreachable")<{
  readonly message: string
  readonly cause: SqlError.SqlError
}> {}

/** No home server of this version has used the database yet. The message has the remedy. */
export class DatabaseUnused extends Data.TaggedError("DatabaseUnused")<{ readonly message: string }> {}

export type DatabaseError =
  | SqlError.SqlError
  | Migrator.MigrationError
  | DatabaseTooNew
  | DatabaseUnreachable
  | DatabaseUnsuitable

export interface PoolOptions {
  /** `postgresql://user:password@host:port/name`, or `postgresql:///name?host=/directory/of/the/socket`. */
  readonly url: Redacted.Redacted
  /** How many connections this node opens at most; at least 2, as the event log keeps one for itself. */
  readonly maxConnections?: number | undefined
  /** Connections are opened only while the database is held. */
  readonly hold?: DatabaseHold["Service"] | undefined
}

export interface DatabaseOptions {
  /** An external database. Without it the embedded PostgreSQL runs in the data directory. */
  readonly databaseUrl?: Redacted.Redacted | undefined
  readonly dataDir: string
  readonly maxConnections?: number | undefined
}

/** "greenroom" in the bytes of ASCII: the advisory lock that one migrating node holds. */
const migrationLock = 0x677265656e726f6fn

/** Called when a migration begins, with its name and the completed part of the missing ones, between 0 and 1. */
export class MigrationProgress extends Context.Reference<(migration: string, done: number) => void>(
  "greenroom/store/MigrationProgress",
  { defaultValue: () => () => {} }
) {}

type Migrations = Readonly<Record<string, (typeof migrations)[keyof typeof migrations]>>

/** The migrations as effects that report their start. Applied ones are not run, and not counted. */
const reporting = (wanted: Migrations, report: (migration: string, done: number) => void) => {
  const names = Object.keys(wanted)
  let first: number | undefined
  return Object.fromEntries(
    Object.entries(wanted).map(([name, load], index) => [
      name,
      Effect.gen(function* () {
        first ??= index
        report(name, (index - first) / (names.length - first))
        const { default: migrate } = yield* Effect.promise(load)
        yield* migrate
      })
    ])
  )
}

/** The version of the database, 0 if it is empty. Fails if its migrations are not the first ones of this program. */
const checkApplied: Effect.Effect<number, DatabaseError, SqlClient.SqlClient> = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const [found] = yield* sql<{ there: boolean }>`SELECT to_regclass('migrations') IS NOT NULL AS there`
  if (found?.there !== true) return 0
  const applied = yield* sql<AppliedMigration>`SELECT migration_id AS id, name FROM migrations`
  const problem = migrationsProblem(applied, migrationNames)
  if (problem === undefined) return Math.max(0, ...applied.map(({ id }) => id))
  const message = `The database ${problem.found}. ${problem.remedy}`
  return yield* problem.tooNew ? new DatabaseTooNew({ message }) : new DatabaseUnsuitable({ message })
})

/** Applies the missing migrations up to a version, in one transaction: a failure leaves the database unchanged. */
export const migrateTo = (version: number): Effect.Effect<void, DatabaseError, SqlClient.SqlClient> =>
  SqlClient.SqlClient.use((sql) =>
    sql.withTransaction(
      Effect.gen(function* () {
        yield* checkRequirements
        yield* sql`SELECT pg_advisory_xact_lock(${migrationLock})`
        yield* checkApplied
        const wanted = Object.fromEntries(
          Object.entries(migrations).filter(([name]) => Number.parseInt(name, 10) <= version)
        )
        const loader = Migrator.fromRecord(reporting(wanted, yield* MigrationProgress))
        yield* Migrator.make({})({ loader, table: "migrations" })
        // The tables by which Effect's cluster finds its nodes.
        const { migrations: clusterMigrations } = yield* Effect.promise(() => import("effect/cluster/SqlRunnerStorage"))
        yield* Migrator.make({})({ loader: clusterMigrations({}), table: "cluster_runner_migrations" })
      })
    )
  )

/** Fails if a restore into the database was interrupted. */
const checkWhole: Effect.Effect<void, DatabaseUnsuitable | SqlError.SqlError, SqlClient.SqlClient> = Effect.gen(
  function* () {
    const sql = yield* SqlClient.SqlClient
    const [found] = yield* sql<{ unfinished: boolean }>`
      SELECT to_regclass(${unfinishedTable}) IS NOT NULL AS unfinished`
    if (found?.unfinished !== true) return
    return yield* new DatabaseUnsuitable({
      message: "A restore into this database was interrupted: run it again (greenroom restore)"
    })
  }
)

/** Applies the missing migrations. Their work on the rows of large tables follows in batches. */
export const migrate: Effect.Effect<void, DatabaseError, SqlClient.SqlClient> = checkWhole.pipe(
  Effect.andThen(migrateTo(newestMigration)),
  Effect.andThen(SqlClient.SqlClient.use(backFillEventAuth))
)

/** Fails unless a home server of this version has used the database. Changes nothing. */
const checkCurrent: Effect.Effect<void, DatabaseError | DatabaseUnused, SqlClient.SqlClient> = Effect.gen(function* () {
  yield* checkWhole
  yield* checkRequirements
  const version = yield* checkApplied
  if (version > 0 && version < newestMigration) {
    return yield* new DatabaseUnused({
      message: `The database is at version ${version}, and this Greenroom needs ${newestMigration}: start the server, or run greenroom migrate`
    })
  }
  const sql = yield* SqlClient.SqlClient
  const owners = version === 0 ? [] : yield* sql`SELECT 1 FROM server_settings WHERE name = 'server_name'`
  if (owners.length > 0) return
  return yield* new DatabaseUnused({
    message: "No server has used this database yet: start the server once, or name another database with --database-url"
  })
})

/** The password of a URL, empty if it has none. */
const passwordOf = (url: Redacted.Redacted): Redacted.Redacted => {
  const parsed = URL.parse(Redacted.value(url))
  return Redacted.make(decodeURIComponent(parsed?.password || (parsed?.searchParams.get("password") ?? "")))
}

/** A pool of connections without migrations. */
export const pool = ({
  hold,
  maxConnections,
  url
}: PoolOptions): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, SqlError.SqlError> =>
  PooledClient.layer({
    url,
    applicationName: hold?.applicationName ?? "greenroom",
    // The pool evaluates the password before each connection.
    ...(hold === undefined ? {} : { password: Effect.as(hold.verified, passwordOf(url)) }),
    maxConnections: Math.max(2, maxConnections ?? 10),
    minConnections: 1,
    multiplex: true,
    preparedStatementCacheSize: 400,
    maxMessageSize: 256 * 1024 * 1024
  })

/** A pool of connections to a migrated database. */
export const migrated = (options: PoolOptions): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, DatabaseError> =>
  Layer.effectDiscard(migrate).pipe(Layer.provideMerge(pool(options)), namingUnreachable(options.url))

/** A pool of connections to the database of a home server of this version. */
const current = (
  options: PoolOptions
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, DatabaseError | DatabaseUnused> =>
  Layer.effectDiscard(checkCurrent).pipe(Layer.provideMerge(pool(options)), namingUnreachable(options.url))

/** A migrated pool, held against every process that wants the database alone or in another mode. */
const held = ({
  maxConnections,
  mode,
  url
}: PoolOptions & { readonly mode: HoldMode }): Layer.Layer<
  PgClient.PgClient | SqlClient.SqlClient | DatabaseHold,
  DatabaseError | DatabaseInUse
> =>
  Layer.unwrap(
    Effect.map(DatabaseHold, (hold) =>
      Layer.effectDiscard(Effect.andThen(migrate, hold.register)).pipe(
        Layer.provideMerge(pool({ url, maxConnections, hold }))
      )
    )
  ).pipe(Layer.provideMerge(DatabaseHold.layer(url, mode)), namingUnreachable(url))

/** Adds the name of the database and the remedy to failures to connect. */
export const namingUnreachable =
  (url: Redacted.Redacted) =>
  <A, E>(layer: Layer.Layer<A, E | SqlError.SqlError>): Layer.Layer<A, E | SqlError.SqlError | DatabaseUnreachable> =>
    Layer.catch(layer, (error) =>
      Layer.effectContext(
        Effect.fail(
          SqlError.isSqlError(error) && error.reason.operation === "connect" ? unreachable(url, error) : error
        )
      )
    )

const unreachable = (url: Redacted.Redacted, error: SqlError.SqlError): DatabaseUnreachable => {
  const parsed = URL.parse(Redacted.value(url))
  const host = parsed?.searchParams.get("host") ?? parsed?.host
  const name = parsed === null ? "a URL that cannot be read" : `${host}${parsed.pathname}`
  const { cause } = error.reason
  const reason = cause instanceof Error ? cause.message : error.message
  const remedy = databaseRemedy((cause as { readonly code?: string } | undefined)?.code, reason)
  const message = `Cannot connect to the database (${name}): ${reason}. ${remedy}`
  return new DatabaseUnreachable({ message, cause: error })
}

/** A layer on the configured database: `databaseUrl`, or without it the embedded server in `dataDir`. */
const onChosen = <A, E>(
  { databaseUrl, dataDir, maxConnections }: DatabaseOptions,
  build: (options: PoolOptions) => Layer.Layer<A, E>
): Layer.Layer<A, E | EmbeddedPostgresError> =>
  databaseUrl !== undefined
    ? build({ url: databaseUrl, maxConnections })
    : Layer.unwrap(Effect.map(EmbeddedPostgres, ({ url }) => build({ url, maxConnections }))).pipe(
        Layer.provide(Layer.unwrap(Effect.as(checkRestored(dataDir), EmbeddedPostgres.layer({ dataDir }))))
      )

/**
 * Fails if another process holds the configured database, before anything is started on it. Other failures are left to
 * `exclusiveLayer`.
 */
export const checkFree = (
  { databaseUrl, dataDir }: DatabaseOptions,
  mode: HoldMode = "alone"
): Effect.Effect<void, DatabaseInUse | EmbeddedPostgresError> =>
  databaseUrl === undefined
    ? checkUnlocked(dataDir)
    : Effect.catchTag(DatabaseHold.checkFree(databaseUrl, mode), "SqlError", () => Effect.void)

/** The migrated configured database, for programs beside the home server. */
export const layer = (
  options: DatabaseOptions
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, DatabaseError | EmbeddedPostgresError> =>
  onChosen(options, migrated)

/** The configured database, which a home server of this version has used, for programs that create and migrate nothing. */
export const currentLayer = (
  options: DatabaseOptions
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, DatabaseError | DatabaseUnused | EmbeddedPostgresError> =>
  onChosen(options, current)

/** The migrated configured database for the home server, of which one process at a time runs on a database. */
export const exclusiveLayer = (
  options: DatabaseOptions
): Layer.Layer<
  PgClient.PgClient | SqlClient.SqlClient | DatabaseHold,
  DatabaseError | DatabaseInUse | EmbeddedPostgresError
> => onChosen(options, (pool) => held({ ...pool, mode: "alone" }))

/** The migrated external database for one of several nodes. */
export const clusterLayer = (
  options: DatabaseOptions
): Layer.Layer<
  PgClient.PgClient | SqlClient.SqlClient | DatabaseHold,
  DatabaseError | DatabaseInUse | EmbeddedPostgresError
> => onChosen(options, (pool) => held({ ...pool, mode: "shared" }))
