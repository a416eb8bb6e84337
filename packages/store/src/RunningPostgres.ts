/**
 * The embedded PostgreSQL that a running gateway has started on a data directory. Other programs, such as commands, connect to it,
 * since two PostgreSQL servers cannot use one directory.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Redacted from "effect/Redacted"

const isRunning = (pid: number): boolean => {
  if (!Number.isInteger(pid) || pid <= 0) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM"
  }
}

/** The URL of the database that a running gateway keeps in `dataDir`; none if none runs. */
export const findRunningPostgres = (dataDir: string): Effect.Effect<Option.Option<Redacted.Redacted>> =>
  Effect.promise(async () => {
    const file = path.join(dataDir, "postgres", "postmaster.pid")
    const [pid, , , port, socketDir, , , status] = (await fs.readFile(file, "utf8").catch(() => "")).split("\n")
    if (!isRunning(Number(pid)) || !socketDir || status?.trim() !== "ready") return Option.none()
    return Option.some(
      Redacted.make(`postgresql:///greenroom?host=${encodeURIComponent(socketDir)}&port=${port}&user=greenroom`)
    )
  })
