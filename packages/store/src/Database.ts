/**
 * The database of a home server: a pool of connections with the migrations applied. Several nodes may start on the
 * same database at once, one of them migrates and the others wait.
 *
 * What to know when writing SQL here: `bigint` columns arrive as `bigint`, `bytea` as `Uint8Array`, `text[]` as an
 * array; a string parameter takes the type that the statement gives it. An array of numbers must be all 32 bits or
 * all larger, so write arrays by `PgArrays`.
 *
 * PostgreSQL's text holds no NUL and no lone surrogates. Identifiers, event types, state keys, transaction IDs and names
 * of profile fields are checked by their schemas in `protocol`, before anything reaches the store; free text (event
 * bodies, profile values, status messages, device names) is stored as JSON, which escapes them.
 */
import type { PgClient } from "@effect/sql-pg"
import { Context, Data, Effect, Layer, Redacted } from "effect"
import { SqlRunnerStorage } from "effect/cluster"
import { Migrator, SqlClient, SqlError } from "effect/sql"
import { DatabaseHold, type DatabaseInUse, type HoldMode } from "./DatabaseHold.ts"
import { checkRequirements, DatabaseUnsuitable } from "./DatabaseRequirements.ts"
import { EmbeddedPostgres } from "./EmbeddedPostgres.ts"
import type { EmbeddedPostgresError } from "./EmbeddedPostgresError.ts"
import { backFillEventAuth } from "./internal/backFills.ts"
import { checkUnlocked } from "./internal/directoryLock.ts"
import * as PooledClient from "./internal/PooledClient.ts"
import homeServer from "./migrations/0001_home_server.ts"
import federation from "./migrations/0003_federation.ts"
import outgoingTransactions from "./migrations/0004_outgoing_transactions.ts"
import logins from "./migrations/0005_logins.ts"
import joinedDepth from "./migrations/0006_joined_depth.ts"
import thirdPartyInvites from "./migrations/0007_third_party_invites.ts"
import devices from "./migrations/0008_devices.ts"
import databaseHolder from "./migrations/0009_database_holder.ts"
import refusedTransactions from "./migrations/0010_refused_transactions.ts"
import eventAuth from "./migrations/0011_event_auth.ts"
import openIdTokens from "./migrations/0012_openid_tokens.ts"
import userData from "./migrations/0013_user_data.ts"
import log from "./migrations/0014_log.ts"
import keyNotaries from "./migrations/0015_key_notaries.ts"
import sync from "./migrations/0016_sync.ts"
import roomVisibility from "./migrations/0017_room_visibility.ts"
import relations from "./migrations/0018_relations.ts"
import logEpochs from "./migrations/0019_log_epochs.ts"
import forgottenRoomsAndReports from "./migrations/0020_forgotten_rooms_and_reports.ts"
import creations from "./migrations/0021_creations.ts"
import shortLived from "./migrations/0022_short_lived.ts"
import deviceKeys from "./migrations/0023_device_keys.ts"
import keyBackups from "./migrations/0024_key_backups.ts"
import outgoingEdus from "./migrations/0025_outgoing_edus.ts"
import media from "./migrations/0026_media.ts"
import accountStandings from "./migrations/0027_account_standings.ts"
import addressValidations from "./migrations/0028_address_validations.ts"
import oauth from "./migrations/0029_oauth.ts"
import pushCounts from "./migrations/0030_push_counts.ts"
import pushers from "./migrations/0031_pushers.ts"
import search from "./migrations/0032_search.ts"
import slidingSync from "./migrations/0033_sliding_sync.ts"
import presenceDenials from "./migrations/0034_presence_denials.ts"
import aliasCreators from "./migrations/0035_alias_creators.ts"
import unfinishedMemberships from "./migrations/0036_unfinished_memberships.ts"
import unverifiedState from "./migrations/0037_unverified_state.ts"
import appServices from "./migrations/0038_app_services.ts"
import policyKey from "./migrations/0039_policy_key.ts"
import audit from "./migrations/0040_audit.ts"
import roomAdministration from "./migrations/0041_room_administration.ts"
import bans from "./migrations/0042_bans.ts"
import dataExports from "./migrations/0043_data_exports.ts"
import shardFences from "./migrations/0044_shard_fences.ts"
import appServiceRooms from "./migrations/0045_app_service_rooms.ts"
import guests from "./migrations/0046_guests.ts"
import delayedEvents from "./migrations/0047_delayed_events.ts"
import erasures from "./migrations/0048_erasures.ts"
import dehydratedDevices from "./migrations/0049_dehydrated_devices.ts"
import contacts from "./migrations/0050_contacts.ts"
import registrationApproval from "./migrations/0051_registration_approval.ts"
import deviceNames from "./migrations/0052_device_names.ts"
import emailPushers from "./migrations/0053_email_pushers.ts"
import serverNotices from "./migrations/0054_server_notices.ts"
import pushPruning from "./migrations/0055_push_pruning.ts"
import sessionSignals from "./migrations/0056_session_signals.ts"
import runningCounts from "./migrations/0057_running_counts.ts"
import deviceSettings from "./migrations/0058_device_settings.ts"
import timelineGaps from "./migrations/0059_timeline_gaps.ts"
import destinationDialects from "./migrations/0060_destination_dialects.ts"
import policyVerdicts from "./migrations/0061_policy_verdicts.ts"
import shardHolders from "./migrations/0085_shard_holders.ts"
import { checkRestored, unfinishedTable } from "./UnfinishedRestore.ts"

/** Every migration, in the order of its number. They go forward only. */
const migrations = {
  "0001_home_server": homeServer,
  "0003_federation": federation,
  "0004_outgoing_transactions": outgoingTransactions,
  "0005_logins": logins,
  "0006_joined_depth": joinedDepth,
  "0007_third_party_invites": thirdPartyInvites,
  "0008_devices": devices,
  "0009_database_holder": databaseHolder,
  "0010_refused_transactions": refusedTransactions,
  "0011_event_auth": eventAuth,
  "0012_openid_tokens": openIdTokens,
  "0013_user_data": userData,
  "0014_log": log,
  "0015_key_notaries": keyNotaries,
  "0016_sync": sync,
  "0017_room_visibility": roomVisibility,
  "0018_relations": relations,
  "0019_log_epochs": logEpochs,
  "0020_forgotten_rooms_and_reports": forgottenRoomsAndReports,
  "0021_creations": creations,
  "0022_short_lived": shortLived,
  "0023_device_keys": deviceKeys,
  "0024_key_backups": keyBackups,
  "0025_outgoing_edus": outgoingEdus,
  "0026_media": media,
  "0027_account_standings": accountStandings,
  "0028_address_validations": addressValidations,
  "0029_oauth": oauth,
  "0030_push_counts": pushCounts,
  "0031_pushers": pushers,
  "0032_search": search,
  "0033_sliding_sync": slidingSync,
  "0034_presence_denials": presenceDenials,
  "0035_alias_creators": aliasCreators,
  "0036_unfinished_memberships": unfinishedMemberships,
  "0037_unverified_state": unverifiedState,
  "0038_app_services": appServices,
  "0039_policy_key": policyKey,
  "0040_audit": audit,
  "0041_room_administration": roomAdministration,
  "0042_bans": bans,
  "0043_data_exports": dataExports,
  "0044_shard_fences": shardFences,
  "0045_app_service_rooms": appServiceRooms,
  "0046_guests": guests,
  "0047_delayed_events": delayedEvents,
  "0048_erasures": erasures,
  "0049_dehydrated_devices": dehydratedDevices,
  "0050_contacts": contacts,
  "0051_registration_approval": registrationApproval,
  "0052_device_names": deviceNames,
  "0053_email_pushers": emailPushers,
  "0054_server_notices": serverNotices,
  "0055_push_pruning": pushPruning,
  "0056_session_signals": sessionSignals,
  "0057_running_counts": runningCounts,
  "0058_device_settings": deviceSettings,
  "0059_timeline_gaps": timelineGaps,
  "0060_destination_dialects": destinationDialects,
  "0061_policy_verdicts": policyVerdicts,
  "0085_shard_holders": shardHolders
}

/** The version of the database that this program writes. */
export const newestMigration = Math.max(...Object.keys(migrations).map((name) => Number.parseInt(name, 10)))

/** The database was written by a newer version of Greenroom, which may have changed what this one relies on. */
export class DatabaseTooNew extends Data.TaggedError("DatabaseTooNew")<{ readonly message: string }> {}

/** No connection, or no leave to connect. The message names the database, never its password. */
export class DatabaseUnreachable extends Data.TaggedError("DatabaseUnreachable")<{
  readonly message: string
  readonly cause: SqlError.SqlError
}> {}

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

/** Is called as migrations begin: with the name of one, and how many of the missing ones are done, between 0 and 1. */
export class MigrationProgress extends Context.Reference<(migration: string, done: number) => void>(
  "greenroom/store/MigrationProgress",
  { defaultValue: () => () => {} }
) {}

type Migrations = Readonly<Record<string, (typeof migrations)[keyof typeof migrations]>>

/** The same migrations, which report when they begin. Those that were applied before are not run, and not counted. */
const reporting = (wanted: Migrations, report: (migration: string, done: number) => void): Migrations => {
  const names = Object.keys(wanted)
  let first: number | undefined
  return Object.fromEntries(
    Object.entries(wanted).map(([name, migration], index) => [
      name,
      Effect.suspend(() => {
        first ??= index
        report(name, (index - first) / (names.length - first))
        return migration
      })
    ])
  ) as Migrations
}

/** Applies the missing migrations up to a version, in one transaction: a failure leaves the database unchanged. */
export const migrateTo = (version: number): Effect.Effect<void, DatabaseError, SqlClient.SqlClient> =>
  SqlClient.SqlClient.use((sql) =>
    sql.withTransaction(
      Effect.gen(function* () {
        yield* checkRequirements
        yield* sql`SELECT pg_advisory_xact_lock(${migrationLock})`
        const wanted = Object.fromEntries(
          Object.entries(migrations).filter(([name]) => Number.parseInt(name, 10) <= version)
        )
        const loader = Migrator.fromRecord(reporting(wanted, yield* MigrationProgress))
        yield* Migrator.make({})({ loader, table: "migrations" })
        // The tables by which Effect's cluster finds its nodes.
        yield* Migrator.make({})({ loader: SqlRunnerStorage.migrations({}), table: "cluster_runner_migrations" })
        const applied = yield* sql<{ id: number }>`SELECT max(migration_id) AS id FROM migrations`
        const newest = applied[0]?.id ?? 0
        if (newest > newestMigration) {
          return yield* new DatabaseTooNew({
            message: `The database is at version ${newest}, this Greenroom knows ${newestMigration}: run the version that wrote it, or a newer one.`
          })
        }
      })
    )
  )

/** Fails where a restore into the database was cut off. */
const checkWhole: Effect.Effect<void, DatabaseUnsuitable | SqlError.SqlError, SqlClient.SqlClient> = Effect.gen(
  function* () {
    const sql = yield* SqlClient.SqlClient
    const [found] = yield* sql<{ unfinished: boolean }>`
      SELECT to_regclass(${unfinishedTable}) IS NOT NULL AS unfinished`
    if (found?.unfinished !== true) return
    return yield* new DatabaseUnsuitable({
      message: "A restore into this database was cut off: run it again (greenroom restore)"
    })
  }
)

/** Applies the missing migrations. Their work on the rows of large tables follows in batches. */
export const migrate: Effect.Effect<void, DatabaseError, SqlClient.SqlClient> = checkWhole.pipe(
  Effect.andThen(migrateTo(newestMigration)),
  Effect.andThen(SqlClient.SqlClient.use(backFillEventAuth))
)

/** The password of a URL, empty where it has none. */
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
    // The password is asked for before each connection.
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

/** The same, held against every other process that wants to hold it in another mode, or alone. */
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

/** Failures to connect name the database. */
const namingUnreachable =
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
  const reason = error.reason.cause instanceof Error ? error.reason.cause.message : error.message
  return new DatabaseUnreachable({ message: `Cannot connect to the database (${name}): ${reason}`, cause: error })
}

/** Builds on the database that the operator chose: `databaseUrl` where given, else the embedded server in `dataDir`. */
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
 * Fails where another process holds the database that the operator chose, before anything is started on it. Other
 * failures are left to `exclusiveLayer`.
 */
export const checkFree = (
  { databaseUrl, dataDir }: DatabaseOptions,
  mode: HoldMode = "alone"
): Effect.Effect<void, DatabaseInUse | EmbeddedPostgresError> =>
  databaseUrl === undefined
    ? checkUnlocked(dataDir)
    : Effect.catchTag(DatabaseHold.checkFree(databaseUrl, mode), "SqlError", () => Effect.void)

/** The migrated database that the operator chose, for programs beside the home server. */
export const layer = (
  options: DatabaseOptions
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, DatabaseError | EmbeddedPostgresError> =>
  onChosen(options, migrated)

/** The same for the home server, of which one process at a time runs on a database. */
export const exclusiveLayer = (
  options: DatabaseOptions
): Layer.Layer<
  PgClient.PgClient | SqlClient.SqlClient | DatabaseHold,
  DatabaseError | DatabaseInUse | EmbeddedPostgresError
> => onChosen(options, (pool) => held({ ...pool, mode: "alone" }))

/** The same for one node of several, which share an external database. */
export const clusterLayer = (
  options: DatabaseOptions
): Layer.Layer<
  PgClient.PgClient | SqlClient.SqlClient | DatabaseHold,
  DatabaseError | DatabaseInUse | EmbeddedPostgresError
> => onChosen(options, (pool) => held({ ...pool, mode: "shared" }))
