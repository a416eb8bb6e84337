/**
 * The user that PostgreSQL runs as. It refuses to run as root, so a gateway that runs as root starts it under an account
 * without privileges. Where that account cannot reach the data directory or the programs (a home directory with mode 0700,
 * say), the account keeps the one capability to pass directories, or else a user namespace hides from PostgreSQL that it is
 * root. What works is found out by trying.
 */

import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as Effect from "effect/Effect"
import * as Result from "effect/Result"
import { EmbeddedPostgresError } from "../EmbeddedPostgresError.ts"
import type { PostgresBinaries } from "./postgresBinaries.ts"

export interface PostgresLauncher {
  /** The owner of PostgreSQL's files; undefined for the current user. */
  readonly owner: Account | undefined
  readonly spawn: (program: string, args: ReadonlyArray<string>, options: SpawnOptions) => ChildProcess
}

interface Account {
  readonly uid: number
  readonly gid: number
}

/** PostgreSQL gets an environment of its own: neither our secrets nor settings such as PGDATA. */
const environment = { PATH: process.env.PATH ?? "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC" }

const direct = (owner: Account | undefined): PostgresLauncher => ({
  owner,
  spawn: (program, args, options) => spawn(program, args, { cwd: "/", env: environment, ...options, ...owner })
})

const through = (
  owner: Account | undefined,
  command: string,
  commandArgs: ReadonlyArray<string>
): PostgresLauncher => ({
  owner,
  spawn: (program, args, options) =>
    spawn(command, [...commandArgs, "--", program, ...args], { cwd: "/", env: environment, ...options })
})

/**
 * Without the secure bit, the kernel would ignore the capability where PostgreSQL asks whether it may read its own
 * program.
 */
const withCapability = (account: Account, capability: string): PostgresLauncher =>
  through(account, "setpriv", [
    `--reuid=${account.uid}`,
    `--regid=${account.gid}`,
    "--clear-groups",
    "--no-new-privs",
    "--securebits=+no_setuid_fixup",
    `--inh-caps=+${capability}`,
    `--ambient-caps=+${capability}`
  ])

const inUserNamespace = (owner: Account | undefined, account: Account): PostgresLauncher =>
  through(owner, "unshare", ["--user", `--map-user=${account.uid}`, `--map-group=${account.gid}`])

/** The account without privileges: the present owner of the data, else `postgres`, else `nobody`. initdb needs its name. */
const findAccount = async (postgresDir: string): Promise<Account> => {
  const accounts = (await fs.readFile("/etc/passwd", "utf8"))
    .split("\n")
    .map((line) => line.split(":"))
    .map(([name, , uid, gid]) => ({ name, uid: Number(uid), gid: Number(gid) }))
    .filter(({ uid }) => uid > 0)
  const owner = await fs.stat(postgresDir).catch(() => undefined)
  const account =
    accounts.find(({ uid }) => uid === owner?.uid) ??
    accounts.find(({ name }) => name === "postgres") ??
    accounts.find(({ name }) => name === "nobody")
  return { uid: account?.uid ?? 65_534, gid: account?.gid ?? 65_534 }
}

const exitCode = (child: ChildProcess): Promise<number | undefined> =>
  new Promise((resolve) => {
    child.on("error", () => resolve(undefined))
    child.on("exit", (code) => resolve(code ?? undefined))
  })

/** Tries whether PostgreSQL started so can enter the directory and load its libraries. */
const works = async (launcher: PostgresLauncher, directory: string, binaries: PostgresBinaries): Promise<boolean> => {
  const script = 'cd "$1" && exec "$2" --version'
  const child = launcher.spawn("/bin/sh", ["-c", script, "sh", directory, binaries.postgres], { stdio: "ignore" })
  return (await exitCode(child)) === 0
}

type Found = Result.Result<PostgresLauncher, EmbeddedPostgresError>

const hasName = (): boolean => {
  try {
    return os.userInfo().username !== ""
  } catch {
    return false
  }
}

/** A user without a name, as containers have, is not good enough for initdb: it gets one in a user namespace. */
const findUserLauncher = async (dataDir: string, _postgresDir: string, binaries: PostgresBinaries): Promise<Found> => {
  if (hasName()) return Result.succeed(direct(undefined))
  const named = inUserNamespace(undefined, { uid: 65_534, gid: 65_534 })
  return Result.succeed((await works(named, dataDir, binaries)) ? named : direct(undefined))
}

const findRootLauncher = async (dataDir: string, postgresDir: string, binaries: PostgresBinaries): Promise<Found> => {
  const account = await findAccount(postgresDir)
  const candidates = [
    direct(account),
    withCapability(account, "dac_read_search"),
    withCapability(account, "dac_override"),
    inUserNamespace({ uid: 0, gid: 0 }, account)
  ]
  for (const launcher of candidates) {
    if (await works(launcher, dataDir, binaries)) return Result.succeed(launcher)
  }
  return Result.fail(
    new EmbeddedPostgresError({
      message: `PostgreSQL does not run as root, and no account without privileges can use ${dataDir} and ${binaries.root}: choose directories that everyone may pass with --data-dir, or start Greenroom as another user.`
    })
  )
}

/** Finds a way to run the programs on the directory `postgresDir` in `dataDir`. */
export const findPostgresLauncher = Effect.fnUntraced(function* (
  dataDir: string,
  postgresDir: string,
  binaries: PostgresBinaries
): Effect.fn.Return<PostgresLauncher, EmbeddedPostgresError> {
  const find = process.getuid?.() === 0 ? findRootLauncher : findUserLauncher
  const found = yield* Effect.tryPromise({
    try: () => find(dataDir, postgresDir, binaries),
    catch: (cause) =>
      new EmbeddedPostgresError({
        message: `Cannot find an account for PostgreSQL to use ${dataDir} (--data-dir)`,
        cause
      })
  })
  return yield* Effect.fromResult(found)
})
