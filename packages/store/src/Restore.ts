/**
 * Restores a backup (`Backup.ts`) into an empty database, and its uploaded files into the content repository. The whole file
 * is checked before anything is written; a failure after that leaves the database empty again, and removes the uploaded
 * files that it added. The next restore removes the remains of an interrupted one (`UnfinishedRestore.ts`).
 */
import { createHash } from "node:crypto"
import { once } from "node:events"
import * as fs from "node:fs"
import { pipeline, Readable } from "node:stream"
import { finished } from "node:stream/promises"
import { createZstdDecompress } from "node:zlib"
import * as Effect from "effect/Effect"
import type * as Redacted from "effect/Redacted"
import type { Client } from "pg"
import {
  attempt,
  BackupFailed,
  type BackupHeader,
  type BackupProgress,
  type BackupTable,
  copyTarget,
  magic,
  newestFormat,
  withClient
} from "./Backup.ts"
import * as Database from "./Database.ts"
import { type RestoreNotes, unfinishedTable } from "./UnfinishedRestore.ts"

/** The destination of the uploaded files. */
export interface FileTarget {
  readonly has: (sha256: Uint8Array) => Promise<boolean>
  /** Reads the content to its end, and stores it unless it exists. False if it does not match the hash, and was not stored. */
  readonly put: (sha256: Uint8Array, content: Readable) => Promise<boolean>
  readonly remove: (sha256: Uint8Array) => Promise<void>
}

export interface RestoreOptions {
  /** The database, which has no tables, or those of an interrupted restore. */
  readonly url: Redacted.Redacted
  readonly notes: RestoreNotes
  readonly file: string
  readonly files: FileTarget
  readonly onProgress?: ((progress: BackupProgress) => void) | undefined
}

interface Frame {
  readonly type: string
  readonly payload: Buffer
}

/** The summary of a restored backup. */
export interface RestoreReport {
  /** How many uploaded files the backup has, including files that existed already. */
  readonly files: number
  /** Uploaded files that were damaged when the backup was made, and are left out. */
  readonly damaged: number
}

type OnProgress = (progress: BackupProgress) => void

/** Longer than any frame that is written. */
const maxFrame = 16 * 1024 * 1024

const refuse = (file: string, problem: string): BackupFailed =>
  new BackupFailed({ message: `${file} ${problem}. Nothing was restored.` })

/** The offset of the frames, in bytes. Fails for a file that is not a backup, or a newer one. */
const readStart = async (file: string): Promise<number> => {
  const start = Buffer.alloc(magic().length)
  const handle = await fs.promises.open(file, "r").catch((error: NodeJS.ErrnoException) => {
    throw refuse(file, error.code === "ENOENT" ? "is not there" : `cannot be read: ${error.message}`)
  })
  const { bytesRead } = await handle.read(start, 0, start.length, 0)
  await handle.close()
  const [line, version] = /^greenroom-backup ([0-9]+)\n?/.exec(start.toString("latin1", 0, bytesRead)) ?? []
  if (line === undefined) throw refuse(file, "is not a backup of Greenroom")
  if (Number(version) > newestFormat || !line.endsWith("\n")) {
    throw refuse(file, "is a backup of a newer Greenroom: restore it with that one")
  }
  return line.length
}

/** The frames of a file. Fails with `BackupFailed` if the file is not a backup, truncated or damaged. */
async function* framesOf(file: string, onProgress: (done: number) => void): AsyncGenerator<Frame> {
  const begin = await readStart(file)
  const { size } = await fs.promises.stat(file)
  const source = fs.createReadStream(file, { start: begin })
  // An error ends the iteration below.
  const frames = pipeline(source, createZstdDecompress(), () => {})
  let rest: Buffer = Buffer.alloc(0)
  try {
    for await (const chunk of frames as AsyncIterable<Buffer>) {
      rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk])
      let at = 0
      while (rest.length - at >= 5) {
        const length = rest.readUInt32BE(at + 1)
        if (length > maxFrame) throw refuse(file, "is damaged")
        if (rest.length - at < 5 + length) break
        onProgress((begin + source.bytesRead) / size)
        yield { type: rest.toString("latin1", at, at + 1), payload: rest.subarray(at + 5, at + 5 + length) }
        at += 5 + length
      }
      rest = rest.subarray(at)
    }
  } catch (error) {
    if (error instanceof BackupFailed) throw error
    const { code } = error as NodeJS.ErrnoException
    throw refuse(file, code === "Z_BUF_ERROR" || /unexpected end/i.test(String(error)) ? "is cut off" : "is damaged")
  } finally {
    source.destroy()
  }
  if (rest.length > 0) throw refuse(file, "is cut off")
}

/** The JSON of a frame. Not validated: this program or an older one wrote it, and the checksum is right. */
const jsonOf = <A>({ payload }: Frame): A => JSON.parse(payload.toString()) as A

const readHeader = (file: string, frame: Frame): BackupHeader => {
  try {
    if (frame.type === "H") return jsonOf<BackupHeader>(frame)
  } catch {}
  throw refuse(file, "is damaged")
}

/** Reads and checks the whole file. Returns its header. */
const verify = async (file: string, onProgress: OnProgress): Promise<BackupHeader> => {
  const hash = createHash("sha256")
  let header: BackupHeader | undefined
  let ended = false
  let bytes = 0
  for await (const frame of framesOf(file, (done) => onProgress({ what: "checking the backup", bytes, done }))) {
    bytes += frame.payload.length
    if (ended) throw refuse(file, "is damaged")
    header ??= readHeader(file, frame)
    if (frame.type === "E") {
      if (jsonOf<{ readonly sha256: string }>(frame).sha256 !== hash.digest("hex")) throw refuse(file, "is damaged")
      ended = true
      continue
    }
    const head = Buffer.alloc(5)
    head.write(frame.type, 0, "latin1")
    head.writeUInt32BE(frame.payload.length, 1)
    hash.update(head).update(frame.payload)
  }
  if (header === undefined || !ended) throw refuse(file, "is cut off")
  return header
}

/** Checks that the file is a whole backup which this program can restore. */
export const checkBackup = (
  file: string,
  onProgress: OnProgress = () => {}
): Effect.Effect<BackupHeader, BackupFailed> =>
  attempt("The backup could not be read", async () => {
    const header = await verify(file, onProgress)
    if (header.migration > Database.newestMigration) {
      const problem = `was made by a newer Greenroom (database version ${header.migration}, this one knows ${Database.newestMigration}): restore it with that one, or a newer one`
      throw refuse(file, problem)
    }
    return header
  })

/** Checks that the database is empty, and marks it. Removes the remains of an interrupted restore. */
const beginEmpty = async (client: Client): Promise<void> => {
  const { rows } = await client.query<{ relname: string }>(
    "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'S')"
  )
  if (rows.some(({ relname }) => relname === unfinishedTable)) {
    await empty(client)
  } else if (rows.length > 0) {
    throw new BackupFailed({
      message: "The database has tables: a backup is restored into a new, empty one. Nothing was restored."
    })
  }
  await client.query(`CREATE TABLE ${unfinishedTable} ()`)
}

const quotedList = (names: ReadonlyArray<string>): string =>
  names.map((name) => `"${name.replaceAll('"', '""')}"`).join(", ")

/** Stores the rows of a table, up to the frame that ends it. */
const loadTable = async (client: Client, table: BackupTable, frames: AsyncIterable<Frame>, file: string) => {
  const { from } = await import("pg-copy-streams")
  const rows = client.query(from(`COPY ${copyTarget(table)} FROM STDIN`))
  const stored = finished(rows)
  stored.catch(() => {})
  for await (const frame of frames) {
    if (frame.type === "R") {
      rows.end()
      await stored
      const expected = jsonOf<{ readonly rows: number }>(frame).rows
      if (rows.rowCount === expected) return
      throw refuse(file, `has ${expected} rows of ${table.name}, of which ${rows.rowCount} arrived`)
    }
    if (!rows.write(frame.payload)) await Promise.race([once(rows, "drain"), stored])
  }
}

/** The bytes of an uploaded file, up to the frame that ends it. */
async function* contentOf(frames: AsyncIterable<Frame>): AsyncGenerator<Buffer> {
  for await (const { payload, type } of frames) {
    if (type === "Z") return
    yield payload
  }
}

/** Stores uploaded files, and records which of them are new. */
const makeFiles = ({ has, put, remove }: FileTarget, notes: RestoreNotes) => {
  const added: Array<Uint8Array> = [...notes.before]
  const report = { files: 0, damaged: 0 }
  return {
    report,
    restore: async (frame: Frame, frames: AsyncIterable<Frame>) => {
      const sha256 = Buffer.from(jsonOf<{ readonly sha256: string }>(frame).sha256, "hex")
      if (!(await has(sha256))) {
        await notes.add(sha256)
        added.push(sha256)
      }
      const isWell = await put(sha256, Readable.from(contentOf(frames), { objectMode: false }))
      report[isWell ? "files" : "damaged"] += 1
    },
    removeAdded: async () => {
      for (const sha256 of added.splice(0)) await remove(sha256)
    }
  }
}

/** Loads rows and files in one transaction. Triggers are disabled, because the rows that they would write are in the backup. */
const load = async (
  client: Client,
  header: BackupHeader,
  { file, onProgress = () => {} }: RestoreOptions,
  restoreFile: (frame: Frame, frames: AsyncIterable<Frame>) => Promise<void>
): Promise<void> => {
  const forAll = async (statement: (table: string) => string) => {
    for (const table of header.tables) await client.query(statement(quotedList([table])))
  }
  await client.query("BEGIN")
  await client.query("SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0")
  await forAll((table) => `ALTER TABLE ${table} DISABLE TRIGGER USER`)
  await client.query(`TRUNCATE ${quotedList(header.tables)}`)
  let what = ""
  let bytes = 0
  const source = framesOf(file, (done) => onProgress({ what, bytes, done }))
  /** The frames for several readers, one after the other: a reader that stops does not end the iteration. */
  const frames: AsyncIterable<Frame> = {
    [Symbol.asyncIterator]: () => ({
      next: async () => {
        const next = await source.next()
        if (!next.done) bytes += next.value.payload.length
        return next
      }
    })
  }
  try {
    for await (const frame of frames) {
      if (frame.type === "T") {
        const table = jsonOf<BackupTable>(frame)
        what = table.name
        await loadTable(client, table, frames, file)
      } else if (frame.type === "F") {
        what = "uploaded files"
        await restoreFile(frame, frames)
      }
    }
  } finally {
    await source.return(undefined)
  }
  for (const [name, value] of Object.entries(header.sequences)) {
    await client.query("SELECT setval(format('%I', $1::text)::regclass, $2::bigint)", [name, value])
  }
  await forAll((name) => `ALTER TABLE ${name} ENABLE TRIGGER USER`)
  await client.query(`DROP TABLE ${unfinishedTable}`)
  await client.query("COMMIT")
  await client.query("ANALYZE")
}

/** Removes everything that the migrations created in an empty database. */
const empty = async (client: Client): Promise<void> => {
  await client.query(`DO $$ DECLARE item record; BEGIN
    FOR item IN SELECT oid::regclass AS name FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
    LOOP EXECUTE 'DROP TABLE IF EXISTS ' || item.name || ' CASCADE'; END LOOP;
    FOR item IN SELECT oid::regclass AS name FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND relkind = 'S'
    LOOP EXECUTE 'DROP SEQUENCE IF EXISTS ' || item.name || ' CASCADE'; END LOOP;
    FOR item IN SELECT oid::regprocedure AS name FROM pg_proc WHERE pronamespace = current_schema()::regnamespace
      AND proowner = current_user::regrole AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = pg_proc.oid AND deptype = 'e')
    LOOP EXECUTE 'DROP ROUTINE IF EXISTS ' || item.name || ' CASCADE'; END LOOP;
  END $$`)
}

/** Restores a backup that `checkBackup` has checked, with its tables as they were; the next start of the server migrates them. */
export const restore = Effect.fnUntraced(function* (
  header: BackupHeader,
  options: RestoreOptions
): Effect.fn.Return<RestoreReport, BackupFailed> {
  const onClient = (use: (client: Client) => Promise<void>) =>
    attempt("The backup could not be restored", () => withClient(options.url, use))
  const { notes } = options
  const endNotes = attempt(`The notes in ${notes.dataDir} could not be removed`, notes.end)
  yield* Effect.onError(onClient(beginEmpty), () => (notes.before.length === 0 ? Effect.ignore(endNotes) : Effect.void))
  const files = makeFiles(options.files, notes)
  const migrated = Database.migrateTo(header.migration).pipe(
    Effect.provide(Database.pool({ url: options.url, maxConnections: 2 })),
    Effect.mapError((error) => new BackupFailed({ message: `The tables could not be made: ${error.message}` }))
  )
  const removeFiles = attempt("Restored files could not be removed", files.removeAdded)
  const clearAway = Effect.all([onClient(empty), removeFiles, endNotes], { discard: true })
  yield* removeFiles.pipe(
    Effect.andThen(migrated),
    Effect.andThen(onClient((client) => load(client, header, options, files.restore))),
    Effect.onError(() => Effect.ignore(clearAway))
  )
  yield* endNotes
  return files.report
})
