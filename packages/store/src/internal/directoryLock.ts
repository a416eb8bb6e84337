/**
 * One process at a time uses a data directory. The file `greenroom.lock` names it by its number and by when it was
 * started, so that the lock of a process that was killed is recognised, even if another process got its number.
 */

import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { EmbeddedPostgresError } from "../EmbeddedPostgresError.ts"
import { processIdentity } from "./processes.ts"

const lockFile = (directory: string): string => path.join(directory, "greenroom.lock")

const holderOf = async (text: string): Promise<number | undefined> => {
  const [pid, identity] = text.split("\n")
  const running = await processIdentity(Number(pid))
  return running !== undefined && running === identity ? Number(pid) : undefined
}

/** Takes the lock, or answers with the process that holds it. */
const take = async (directory: string): Promise<number | undefined> => {
  const lock = lockFile(directory)
  const own = `${lock}.${process.pid}`
  await fs.writeFile(own, `${process.pid}\n${await processIdentity(process.pid)}\n`, { mode: 0o600 })
  try {
    for (;;) {
      // A link appears with its content, and only if there is none: no process reads an incomplete lock.
      const taken = await fs.link(own, lock).then(
        () => true,
        (error: NodeJS.ErrnoException) => {
          if (error.code === "EEXIST") return false
          throw error
        }
      )
      if (taken) return undefined
      const holder = await holderOf(await fs.readFile(lock, "utf8").catch(() => ""))
      if (holder !== undefined) return holder
      await removeStale(lock, `${own}.stale`)
    }
  } finally {
    await fs.rm(own, { force: true })
  }
}

/** Takes a stale lock away; puts it back if another process has just taken it. */
const removeStale = async (lock: string, aside: string): Promise<void> => {
  await fs.rename(lock, aside).catch(() => undefined)
  const text = await fs.readFile(aside, "utf8").catch(() => "")
  if ((await holderOf(text)) !== undefined) await fs.link(aside, lock).catch(() => undefined)
  await fs.rm(aside, { force: true })
}

const inUse = (directory: string, holder: number): EmbeddedPostgresError =>
  new EmbeddedPostgresError({
    message: `Process ${holder}, another Greenroom, uses the data directory ${directory}: end it first, or choose another directory with --data-dir.`
  })

/** Fails if another process holds the lock, as `lockDirectory` would. Takes nothing. */
export const checkUnlocked = (directory: string): Effect.Effect<void, EmbeddedPostgresError> =>
  Effect.flatMap(
    Effect.promise(async () => holderOf(await fs.readFile(lockFile(directory), "utf8").catch(() => ""))),
    (holder) => (holder === undefined ? Effect.void : Effect.fail(inUse(directory, holder)))
  )

/** Holds the lock of a directory until the scope closes. */
export const lockDirectory = (directory: string): Effect.Effect<void, EmbeddedPostgresError, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.tryPromise({
      try: () => take(directory),
      catch: (cause) =>
        new EmbeddedPostgresError({
          message: `Cannot write into the data directory ${directory} (--data-dir): ${cause instanceof Error ? cause.message : cause}`,
          cause
        })
    }).pipe(Effect.flatMap((holder) => (holder === undefined ? Effect.void : Effect.fail(inUse(directory, holder))))),
    () => Effect.promise(() => fs.rm(lockFile(directory), { force: true }))
  )
