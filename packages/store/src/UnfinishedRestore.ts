/**
 * The marks of a restore in progress. After an interruption (`kill -9`, a power cut) the next restore clears it away by
 * them, and the server does not start on half of a backup:
 *
 * - the file `restore.unfinished` in the data directory has the uploaded files that it added, a SHA-256 a line, each written before
 *   the file is stored;
 * - the table `restore_unfinished` is in the database from before its first table until the transaction that loads the backup.
 */
import * as fs from "node:fs/promises"
import * as path from "node:path"
import * as Effect from "effect/Effect"
import { makeDataDirectory } from "./DataDirectory.ts"
import { EmbeddedPostgresError } from "./EmbeddedPostgresError.ts"

/** The table that marks a database. */
export const unfinishedTable = "restore_unfinished"

/** The first line, which says whether the database is the embedded one of the same directory. */
const embeddedLine = "embedded"
const externalLine = "external"

const fileOf = (dataDir: string): string => path.join(dataDir, "restore.unfinished")

const hex = (sha256: Uint8Array): string => Buffer.from(sha256).toString("hex")

export interface UnfinishedRestore {
  readonly embedded: boolean
  /** The SHA-256 of the files that it may have added. */
  readonly files: ReadonlyArray<Uint8Array>
}

/** The files that an earlier restore has left in a data directory. An incomplete line is of a file that was not stored. */
export const readUnfinished = async (dataDir: string): Promise<UnfinishedRestore | undefined> => {
  const text = await fs.readFile(fileOf(dataDir), "utf8").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined
    throw error
  })
  if (text === undefined) return undefined
  const [first, ...lines] = text.split("\n")
  const files = lines.filter((line) => /^[0-9a-f]{64}$/.test(line)).map((line) => Buffer.from(line, "hex"))
  return { embedded: first === embeddedLine, files }
}

/** The notes of a restore that is under way. */
export interface RestoreNotes {
  readonly dataDir: string
  /** Notes that a file is about to be stored. */
  readonly add: (sha256: Uint8Array) => Promise<void>
  /** The files that an earlier restore may have added. */
  readonly before: ReadonlyArray<Uint8Array>
  /** Notes that the earlier restore was cleared away. */
  readonly end: () => Promise<void>
}

/** Begins the notes, or continues those of a restore that was cut off. */
export const beginNotes = async (dataDir: string, embedded: boolean): Promise<RestoreNotes> => {
  const before = (await readUnfinished(dataDir))?.files ?? []
  await makeDataDirectory(dataDir)
  const begun = `${fileOf(dataDir)}.new`
  await fs.writeFile(begun, [embedded ? embeddedLine : externalLine, ...before.map(hex), ""].join("\n"), {
    mode: 0o600,
    flush: true
  })
  await fs.rename(begun, fileOf(dataDir))
  return {
    dataDir,
    before,
    add: (sha256) => fs.appendFile(fileOf(dataDir), `${hex(sha256)}\n`),
    end: () => fs.rm(fileOf(dataDir), { force: true })
  }
}

/** Fails if the embedded database of a directory was not restored to its end. */
export const checkRestored = (dataDir: string): Effect.Effect<void, EmbeddedPostgresError> =>
  Effect.flatMap(
    Effect.promise(() => readUnfinished(dataDir)),
    (left) =>
      left?.embedded === true
        ? Effect.fail(
            new EmbeddedPostgresError({
              message: `A restore into ${path.resolve(dataDir)} was cut off: run it again (greenroom restore)`
            })
          )
        : Effect.void
  )
