/**
 * The files of the embedded PostgreSQL: their location, their creation and their owner.
 */

import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Effect from "effect/Effect"
import { syncDirectory } from "../DataDirectory.ts"
import { EmbeddedPostgresError } from "../EmbeddedPostgresError.ts"
import type { PostgresBinaries } from "./postgresBinaries.ts"
import type { PostgresLauncher } from "./postgresLauncher.ts"
import { clusterName } from "./postgresOrphans.ts"
import { postgresPort, postgresSettings } from "./postgresSettings.ts"
import { exited } from "./processes.ts"

export interface PostgresInstallation {
  readonly postgresDir: string
  /** The path of the Unix socket. */
  readonly socket: string
  readonly logFile: string
  readonly binaries: PostgresBinaries
  readonly launcher: PostgresLauncher
}

const attempt = <A>(message: string, run: () => Promise<A>): Effect.Effect<A, EmbeddedPostgresError> =>
  Effect.tryPromise({
    try: run,
    catch: (cause) =>
      new EmbeddedPostgresError({ message: `${message}: ${cause instanceof Error ? cause.message : cause}`, cause })
  })

/** The longest path that the address of a Unix socket holds on every system, in bytes. */
const maxSocketPathBytes = 103

/** A directory that only PostgreSQL's account may enter: that of its files, unless the path is too long. */
export const socketDirectory = (
  postgresDir: string,
  { owner }: PostgresLauncher
): Effect.Effect<string, EmbeddedPostgresError> =>
  attempt("Cannot make a directory for PostgreSQL's socket, choose a shorter --data-dir", async () => {
    const longest = Buffer.byteLength(path.join(postgresDir, `.s.PGSQL.${postgresPort}`))
    if (longest <= maxSocketPathBytes) return postgresDir
    const directory = path.join("/tmp", clusterName(postgresDir))
    const made = await fs.mkdir(directory, { mode: 0o700 }).then(
      () => true,
      () => false
    )
    if (made && owner !== undefined) await fs.chown(directory, owner.uid, owner.gid)
    const { uid, mode } = await fs.lstat(directory)
    if (uid !== (owner?.uid ?? process.getuid?.()) || (mode & 0o170_777) !== 0o040_700) {
      throw new Error(`${directory} belongs to another user`)
    }
    return directory
  })

/** Makes the database cluster if there is none, and writes its settings. */
export const makePostgresDirectory = Effect.fnUntraced(function* (
  installation: PostgresInstallation,
  superuser: string,
  settings: Readonly<Record<string, string>>
): Effect.fn.Return<void, EmbeddedPostgresError> {
  const { postgresDir, launcher, binaries } = installation
  yield* attempt(`Cannot make the database in ${postgresDir} (--data-dir)`, async () => {
    await rotateLog(installation.logFile)
    const version = await fs.readFile(path.join(postgresDir, "PG_VERSION"), "utf8").catch(missing)
    if (version === undefined) await initialise(installation, superuser)
    else if (version.trim() !== binaries.majorVersion) {
      throw new Error(
        `it was written by PostgreSQL ${version.trim()}, and this Greenroom brings ${binaries.majorVersion}. Dump it with the former Greenroom and restore it with this one`
      )
    }
    await takeOver(postgresDir, launcher)
    const text = postgresSettings(path.dirname(installation.socket), settings)
    const file = path.join(postgresDir, "postgresql.conf")
    await fs.writeFile(file, text, { mode: 0o600 })
    await own(file, launcher)
  })
})

const missing = (error: NodeJS.ErrnoException): undefined => {
  if (error.code !== "ENOENT") throw error
  return undefined
}

const maxLogBytes = 16 * 1024 * 1024

const rotateLog = async (file: string): Promise<void> => {
  const stat = await fs.stat(file).catch(missing)
  if (stat !== undefined && stat.size > maxLogBytes) await fs.rename(file, `${file}.1`)
}

/**
 * Makes the cluster beside its place and then moves it there, so that one that was interrupted half-way is never taken
 * for a whole one. Text is UTF-8, and compared by code point on every machine.
 */
const initialise = async ({ postgresDir, binaries, launcher, logFile }: PostgresInstallation, superuser: string) => {
  const unfinished = `${postgresDir}.new`
  await fs.rm(unfinished, { recursive: true, force: true, maxRetries: 10, retryDelay: 50 })
  await fs.mkdir(unfinished, { mode: 0o700 })
  await own(unfinished, launcher)
  const log = await fs.open(logFile, "a", 0o600)
  const child = launcher.spawn(
    binaries.initdb,
    [
      `--pgdata=${unfinished}`,
      `--username=${superuser}`,
      "--auth=trust",
      "--encoding=UTF8",
      "--locale=C",
      "--locale-provider=builtin",
      "--builtin-locale=C.UTF-8"
    ],
    { stdio: ["ignore", log.fd, log.fd], detached: true }
  )
  const ending = await exited(child).finally(() => log.close())
  if (ending !== 0) throw new Error(`initdb: ${(await lastComplaint(logFile)) ?? ending} (see ${logFile})`)
  await fs.rename(unfinished, postgresDir)
  await syncDirectory(path.dirname(postgresDir))
}

const own = async (file: string, { owner }: PostgresLauncher): Promise<void> => {
  if (owner !== undefined) await fs.lchown(file, owner.uid, owner.gid)
}

/** PostgreSQL must own its files: changes their owner if an earlier run used another account. */
const takeOver = async (directory: string, launcher: PostgresLauncher): Promise<void> => {
  const { uid } = await fs.stat(directory)
  if (launcher.owner === undefined || uid === launcher.owner.uid) return
  for (const entry of await fs.readdir(directory, { recursive: true })) await own(path.join(directory, entry), launcher)
  await own(directory, launcher)
}

/** Only root can use the files of another user. */
export const requireOwnership = (postgresDir: string): Effect.Effect<void, EmbeddedPostgresError> =>
  attempt(`Cannot use ${postgresDir} (--data-dir)`, async () => {
    const stat = await fs.stat(postgresDir).catch(missing)
    const uid = process.getuid?.()
    if (stat === undefined || uid === 0 || uid === stat.uid) return
    throw new Error(`it belongs to the user with number ${stat.uid}. Start Greenroom as that user, or as root`)
  })

/** Free bytes below which a disk counts as full, and the last lines of the log in which PostgreSQL may say so. */
const noSpace = 1024 * 1024
const recentLines = 30

const isFull = async (directory: string): Promise<boolean> => {
  const { bavail, bsize } = await fs.statfs(directory)
  return bavail * bsize < noSpace
}

/** The reason why PostgreSQL ended: a full disk, else the last line of its log with an error, from the word on; else its last line. */
export const lastComplaint = async (logFile: string): Promise<string | undefined> => {
  const lines = (await fs.readFile(logFile, "utf8").catch(() => "")).trim().split("\n")
  const saysFull = lines.slice(-recentLines).some((line) => line.includes("No space left on device"))
  if (saysFull || (await isFull(path.dirname(logFile)).catch(() => false))) {
    return "the disk is full: make room, or give it a larger disk"
  }
  const complaint = /(?:FATAL|PANIC|error):\s.*$/
  return lines.findLast((line) => complaint.test(line))?.match(complaint)?.[0] ?? lines.at(-1)
}
