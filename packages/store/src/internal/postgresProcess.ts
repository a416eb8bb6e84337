/**
 * One run of the server `postgres`: started, ready, ended.
 */

import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process"
import { closeSync, openSync } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { setTimeout } from "node:timers/promises"
import * as Effect from "effect/Effect"
import { EmbeddedPostgresError } from "../EmbeddedPostgresError.ts"
import { lastComplaint, type PostgresInstallation } from "./postgresDirectory.ts"
import { clusterName, shutdownHangs } from "./postgresOrphans.ts"
import { exited, waitUntil } from "./processes.ts"

const hasExited = (child: ChildProcess): boolean => child.exitCode !== null || child.signalCode !== null

/**
 * A shell that waits for the end of our process, which closes the pipe between us, and then stops PostgreSQL.
 */
const spawnWatchdog = (pid: number): ChildProcess => {
  const watchdog = spawn("/bin/sh", ["-c", 'read -r line || kill -INT "$1"', "greenroom-watchdog", String(pid)], {
    stdio: ["pipe", "ignore", "ignore"],
    detached: true,
    cwd: "/",
    env: {}
  })
  // Without a shell the next start stops the processes that are left.
  watchdog.on("error", () => undefined)
  watchdog.stdin?.on("error", () => undefined)
  return watchdog
}

export class PostgresProcess {
  readonly child: ChildProcess
  private readonly installation: PostgresInstallation
  private readonly watchdog: ChildProcess | undefined

  private constructor(installation: PostgresInstallation, child: ChildProcess) {
    this.installation = installation
    this.child = child
    child.on("error", () => undefined)
    this.watchdog = child.pid === undefined ? undefined : spawnWatchdog(child.pid)
    child.once("exit", () => this.watchdog?.kill("SIGKILL"))
  }

  static spawn(installation: PostgresInstallation): Effect.Effect<PostgresProcess, EmbeddedPostgresError> {
    return Effect.try({
      try: () => {
        const log = openSync(installation.logFile, "a", 0o600)
        try {
          const args = ["-D", installation.postgresDir, "-c", `cluster_name=${clusterName(installation.postgresDir)}`]
          const options: SpawnOptions = { stdio: ["ignore", log, log], detached: true }
          return new PostgresProcess(
            installation,
            installation.launcher.spawn(installation.binaries.postgres, args, options)
          )
        } finally {
          closeSync(log)
        }
      },
      catch: (cause) => new EmbeddedPostgresError({ message: "PostgreSQL cannot be started", cause })
    })
  }

  /** Waits until the server accepts connections, which takes long only after it was killed in the midst of much work. */
  get ready(): Effect.Effect<void, EmbeddedPostgresError> {
    return Effect.tryPromise({
      try: async (signal) => {
        const file = path.join(this.installation.postgresDir, "postmaster.pid")
        while (!hasExited(this.child)) {
          const lines = (await fs.readFile(file, "utf8").catch(() => "")).split("\n")
          if (lines[0] === String(this.child.pid) && lines[7]?.trim() === "ready") return
          await setTimeout(20, undefined, { signal })
        }
        throw new Error((await lastComplaint(this.installation.logFile)) ?? `it ended with ${await exited(this.child)}`)
      },
      catch: (cause) =>
        new EmbeddedPostgresError({
          message: `PostgreSQL did not start: ${cause instanceof Error ? cause.message : cause} (see ${this.installation.logFile})`,
          cause
        })
    })
  }

  /**
   * Ends the server: its clients are disconnected and everything is written. A server that hangs gets SIGQUIT, then
   * SIGKILL.
   */
  get stop(): Effect.Effect<void> {
    return Effect.promise(async () => {
      const ended = async () => hasExited(this.child)
      this.child.kill("SIGINT")
      if (await waitUntil(ended, 1_000)) return
      await waitUntil(async () => (await ended()) || (await shutdownHangs(this.installation.postgresDir)), 60_000)
      if (await ended()) return
      this.child.kill("SIGQUIT")
      if (await waitUntil(ended, 10_000)) return
      this.child.kill("SIGKILL")
      await exited(this.child)
    })
  }
}
