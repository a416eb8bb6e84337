/**
 * Cleans up after a gateway that was killed: a PostgreSQL that still runs, and lock files of one that does not. All
 * processes of a server bear its cluster name in their titles, which distinguishes them from every other PostgreSQL.
 */

import { createHash } from "node:crypto"
import * as fs from "node:fs/promises"
import * as net from "node:net"
import * as path from "node:path"
import { setTimeout } from "node:timers/promises"
import * as Effect from "effect/Effect"
import { EmbeddedPostgresError } from "../EmbeddedPostgresError.ts"
import { commandOf, findProcesses, type RunningProcess, sendSignal, waitUntil } from "./processes.ts"

/** The name that all processes of the server in this directory bear. */
export const clusterName = (postgresDir: string): string =>
  `greenroom-${createHash("sha256").update(postgresDir).digest("hex").slice(0, 16)}`

const isPostmaster = ({ command }: RunningProcess): boolean => /^\S*\bpostgres -D /.test(command)
const isPostgres = (command: string): boolean => /^(postgres: |\S*\/(postgres|postmaster)\b)/.test(command)

const serverProcesses = (postgresDir: string) => {
  const name = clusterName(postgresDir)
  return findProcesses((command) => isPostgres(command) && command.includes(name))
}

/** The processes that are left while a shutdown waits for nothing: that of a recovery, and the checkpointer, which does nothing. */
const isIdle = ({ command }: RunningProcess): boolean => /: (startup\b.*|checkpointer) *$/.test(command)

const onlyIdle = async (postgresDir: string): Promise<boolean> => {
  const children = (await serverProcesses(postgresDir)).filter((process) => !isPostmaster(process))
  return children.length > 0 && children.every(isIdle)
}

/**
 * Whether a fast shutdown (SIGINT) will never end: PostgreSQL 18 got it while it recovered from a crash, of one of its processes too. An
 * immediate one (SIGQUIT) loses nothing, since the next start recovers.
 */
export const shutdownHangs = async (postgresDir: string): Promise<boolean> => {
  if (!(await onlyIdle(postgresDir))) return false
  await setTimeout(500)
  return onlyIdle(postgresDir)
}

const interruptedInitialisation = (postgresDir: string) =>
  findProcesses((command) => /^\S*\binitdb /.test(command) && command.includes(`--pgdata=${postgresDir}.new `))

/** Shuts a server down, or ends the remaining processes of one whose postmaster has ended. */
const stopServer = async (postgresDir: string): Promise<void> => {
  const none = async () => (await serverProcesses(postgresDir)).length === 0
  for (const { pid } of await interruptedInitialisation(postgresDir)) sendSignal(pid, "SIGKILL")
  for (const process of await serverProcesses(postgresDir)) {
    if (isPostmaster(process)) sendSignal(process.pid, "SIGINT")
  }
  // Child processes notice within moments that their postmaster has ended; a long query may delay one.
  const postmasterEnded = async () => !(await serverProcesses(postgresDir)).some(isPostmaster)
  await waitUntil(async () => (await postmasterEnded()) || (await shutdownHangs(postgresDir)), 60_000)
  if (!(await postmasterEnded()) || !(await waitUntil(none, 5_000))) {
    for (const { pid } of await serverProcesses(postgresDir)) sendSignal(pid, "SIGQUIT")
    if (await waitUntil(none, 10_000)) return
    for (const { pid } of await serverProcesses(postgresDir)) sendSignal(pid, "SIGKILL")
    await waitUntil(none, 10_000)
  }
}

const answers = (socket: string): Promise<boolean> =>
  new Promise((resolve) => {
    const connection = net.connect(socket)
    connection.once("connect", () => resolve(true))
    connection.once("error", () => resolve(false))
    connection.once("close", () => resolve(false))
    connection.once("connect", () => connection.destroy())
  })

/**
 * PostgreSQL takes `postmaster.pid` for held if any process has that number now, as happens after a restart of a
 * container. Where that process is no PostgreSQL the file is stale.
 */
const removeStaleLock = async (postgresDir: string, socket: string): Promise<number | undefined> => {
  const file = path.join(postgresDir, "postmaster.pid")
  const pid = Number((await fs.readFile(file, "utf8").catch(() => "")).split("\n")[0])
  if (pid > 0 && isPostgres(await commandOf(pid))) {
    const directory = await fs.readlink(`/proc/${pid}/cwd`).catch(() => postgresDir)
    if (directory === postgresDir) return pid
  }
  await fs.rm(file, { force: true })
  await fs.rm(`${socket}.lock`, { force: true })
  return undefined
}

/** Stops the rest of a former server in the directory and removes its locks. */
export const clearOrphans = Effect.fnUntraced(function* (
  postgresDir: string,
  socket: string
): Effect.fn.Return<void, EmbeddedPostgresError> {
  const foreign = yield* Effect.tryPromise({
    try: async () => {
      await stopServer(postgresDir)
      if (await answers(socket)) return "A PostgreSQL that this process cannot see"
      const pid = await removeStaleLock(postgresDir, socket)
      return pid === undefined ? undefined : `The PostgreSQL with process number ${pid}`
    },
    catch: (cause) =>
      new EmbeddedPostgresError({
        message: `Cannot end the PostgreSQL that an earlier run left behind in ${postgresDir}: ${cause instanceof Error ? cause.message : cause}. End it, or choose another directory with --data-dir.`,
        cause
      })
  })
  if (foreign === undefined) return
  return yield* new EmbeddedPostgresError({
    message: `${foreign} uses ${postgresDir}: end it first, or choose another directory with --data-dir.`
  })
})
