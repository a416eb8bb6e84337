/**
 * A backup of a home server as one file, made while the server runs: all tables as they were at one instant
 * (`REPEATABLE READ`), and the uploaded files that they name. It needs no client programs of PostgreSQL, which the embedded one lacks,
 * and any later version of Greenroom can read it on any version of PostgreSQL (`Restore.ts`).
 *
 * A file is stored before the row that names it is committed, and never changes. So the files of the snapshot exist when they are read,
 * unless the server has removed them since. Such a file is left out.
 *
 * The backup is the line `greenroom-backup 2`, then frames, compressed by zstd. A frame is a byte for its type, its length in
 * four bytes, and its payload:
 *
 * | type | payload |
 * |---|---|
 * | `H` | JSON: `BackupHeader` |
 * | `T` | JSON: a table begins, its name and columns |
 * | `D` | rows of the table, in the format of COPY |
 * | `R` | JSON: the table ends, and how many rows it has |
 * | `F` | JSON: an uploaded file begins, its SHA-256 |
 * | `C` | bytes of the file |
 * | `Z` | JSON: the file ends, and its size |
 * | `E` | JSON: the end, with the SHA-256 of all frames before it |
 *
 * Version 1 had no uploaded files.
 */
import { createHash } from "node:crypto"
import { createWriteStream } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import type { Readable } from "node:stream"
import { pipeline } from "node:stream/promises"
import { setTimeout as pauseFor } from "node:timers/promises"
import { constants, createZstdCompress } from "node:zlib"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import type { Client } from "pg"
import { syncDirectory } from "./DataDirectory.ts"
import { blockBytes, CopyOut, copySocket, heldBlocks } from "./internal/CopyOut.ts"

/** The first line of the file, with the version of the format. */
export const magic = (version = newestFormat): string => `greenroom-backup ${version}\n`

/** The newest version of the format, which is written. */
export const newestFormat = 2

/** The header of a backup. */
export interface BackupHeader {
  readonly server_name: string
  /** The version of the database: the number of its newest migration. */
  readonly migration: number
  readonly created_ts: number
  readonly tables: ReadonlyArray<string>
  /** The last value of each sequence. */
  readonly sequences: { readonly [name: string]: string }
  /** Whether the backup has uploaded files. Absent (version 1): no. */
  readonly files?: boolean
}

/** A table within a backup. */
export interface BackupTable {
  readonly name: string
  readonly columns: ReadonlyArray<string>
}

/** The backup could not be made or restored; the message is for the operator. */
export class BackupFailed extends Data.TaggedError("BackupFailed")<{ readonly message: string }> {}

/** The progress of a backup or restore. */
export interface BackupProgress {
  /** The part being copied: a table, or `uploaded files`. */
  readonly what: string
  /** Bytes before compression. */
  readonly bytes: number
  /** Between 0 and 1; estimated for a backup. */
  readonly done: number
}

/** Reads an uploaded file. Undefined if it does not exist. */
export type ReadFile = (sha256: Uint8Array) => Promise<Readable | undefined>

export interface BackupOptions {
  readonly url: Redacted.Redacted
  /** The file must not exist. */
  readonly file: string
  /** Reads uploaded files. Absent: the backup has only the database. */
  readonly readFile?: ReadFile | undefined
  /** The most bytes per second, before compression. Default: no limit. */
  readonly rate?: number | undefined
  readonly onProgress?: ((progress: BackupProgress) => void) | undefined
}

/** Tables whose rows belong to the processes that run, or are written by the migrations of the restored database. */
const withoutRows: ReadonlySet<string> = new Set([
  "migrations",
  "cluster_runner_migrations",
  "cluster_runners",
  "cluster_locks",
  "database_holder"
])

/** The longest frame, in bytes. */
const maxFrame = 1024 * 1024

const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`

/** The table and its columns for a COPY statement. */
export const copyTarget = ({ columns, name }: BackupTable): string =>
  `${quoted(name)} (${columns.map(quoted).join(", ")})`

/** A connection until `use` ends. */
export const withClient = async <A>(url: Redacted.Redacted, use: (client: Client) => Promise<A>): Promise<A> => {
  const pg = await import("pg")
  const client = new pg.default.Client({
    connectionString: Redacted.value(url),
    application_name: "greenroom backup",
    stream: copySocket
  })
  // A broken connection fails the running query.
  client.on("error", () => {})
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.end()
  }
}

/** The text of an error with its cause, such as a full disk. */
const reasonOf = (error: unknown): string =>
  error instanceof Error
    ? [error.message, ...(error.cause instanceof Error ? [error.cause.message] : [])].join(": ")
    : String(error)

/** Runs a part of a backup, with errors for the operator. */
export const attempt = <A>(what: string, run: () => Promise<A>): Effect.Effect<A, BackupFailed> =>
  Effect.tryPromise({
    try: run,
    catch: (error) =>
      error instanceof BackupFailed ? error : new BackupFailed({ message: `${what}: ${reasonOf(error)}` })
  })

/** The type of a frame, and the length of its payload. */
const headBytes = 5

/** Completes a frame in a buffer that has space for the head before the payload. */
const writeHead = (made: Buffer, type: string): Buffer => {
  made.write(type, 0, "latin1")
  made.writeUInt32BE(made.length - headBytes, 1)
  return made
}

const frame = (type: string, payload: Buffer): Buffer =>
  writeHead(Buffer.concat([Buffer.allocUnsafe(headBytes), payload]), type)

const jsonFrame = (type: string, value: unknown): Buffer => frame(type, Buffer.from(JSON.stringify(value)))

/** The tables to back up, referenced tables first. */
const tablesOf = async (client: Client): Promise<ReadonlyArray<BackupTable>> => {
  const { rows } = await client.query<BackupTable & { refers: ReadonlyArray<string> }>(`
    SELECT c.relname AS name,
      ARRAY(SELECT a.attname::text FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' ORDER BY a.attnum) AS columns,
      ARRAY(SELECT DISTINCT r.confrelid::regclass::text FROM pg_constraint r
        WHERE r.conrelid = c.oid AND r.contype = 'f' AND r.confrelid <> c.oid) AS refers
    FROM pg_class c
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r' AND c.relpersistence = 'p'
    ORDER BY c.relname`)
  const open = rows.filter(({ name }) => !withoutRows.has(name))
  const ordered: Array<BackupTable> = []
  while (open.length > 0) {
    const names = new Set(open.map(({ name }) => name))
    const index = open.findIndex(({ refers }) => !refers.some((name) => names.has(name)))
    if (index === -1) throw new BackupFailed({ message: `Tables refer to each other: ${[...names].join(", ")}` })
    const { columns, name } = open.splice(index, 1)[0]!
    ordered.push({ name, columns })
  }
  return ordered
}

const unused = new BackupFailed({ message: "No home server has used this database yet" })

const headerOf = async (client: Client, tables: ReadonlyArray<BackupTable>, files: boolean): Promise<BackupHeader> => {
  const { rows: found } = await client.query<{ exists: boolean }>(
    "SELECT to_regclass('migrations') IS NOT NULL AND to_regclass('server_settings') IS NOT NULL AS exists"
  )
  if (!found[0]!.exists) throw unused
  const { rows } = await client.query<{ server_name: string | null; migration: number | null }>(`
    SELECT (SELECT value FROM server_settings WHERE name = 'server_name') AS server_name,
      (SELECT max(migration_id) FROM migrations) AS migration`)
  const { rows: sequences } = await client.query<{ name: string; value: string }>(`
    SELECT sequencename AS name, last_value::text AS value FROM pg_sequences
    WHERE schemaname = current_schema() AND last_value IS NOT NULL`)
  const { migration, server_name } = rows[0]!
  if (server_name === null || migration === null) throw unused
  return {
    server_name,
    migration,
    created_ts: Date.now(),
    tables: tables.map(({ name }) => name),
    sequences: Object.fromEntries(sequences.map(({ name, value }) => [name, value])),
    files
  }
}

/** The bytes of a SHA-256. */
const hashLength = 32

/** The uploaded files that the snapshot names but does not contain: their concatenated hashes, and their total size. */
interface NamedFiles {
  readonly hashes: Buffer
  readonly bytes: number
}

const filesOf = async (client: Client): Promise<NamedFiles> => {
  const { rows } = await client.query<{ hashes: Buffer | null; bytes: string }>(`
    SELECT string_agg(sha256, ''::bytea ORDER BY sha256) AS hashes, coalesce(sum(size), 0)::text AS bytes FROM media_blobs b
    WHERE (EXISTS (SELECT FROM media m WHERE m.sha256 = b.sha256)
        OR EXISTS (SELECT FROM media_thumbnails t WHERE t.sha256 = b.sha256))
      AND NOT EXISTS (SELECT FROM media_chunks c WHERE c.sha256 = b.sha256 AND c.position = 0)`)
  return { hashes: rows[0]!.hashes ?? Buffer.alloc(0), bytes: Number(rows[0]!.bytes) }
}

/** The approximate size of the tables, in bytes. */
const sizeOf = async (client: Client, tables: ReadonlyArray<BackupTable>): Promise<number> => {
  const { rows } = await client.query<{ bytes: string }>(
    "SELECT coalesce(sum(pg_table_size(quote_ident(name)::regclass)), 0)::text AS bytes FROM unnest($1::text[]) AS name",
    [tables.map(({ name }) => name)]
  )
  return Number(rows[0]!.bytes)
}

/** The rows of a table as frames. Returns their number. */
async function* rowsOf(client: Client, table: BackupTable): AsyncGenerator<Buffer, number> {
  const rows = client.query(new CopyOut(`COPY ${copyTarget(table)} TO STDOUT`, headBytes))
  for await (const block of rows) yield writeHead(block, "D")
  return rows.rowCount
}

/** The outcome for the uploaded files. */
interface FileCount {
  files: number
  bytes: number
  missing: number
  damaged: number
}

/** The frames of one file. Counts its bytes, and content that does not match its hash as damaged. */
async function* contentOf(sha256: Buffer, source: Readable, count: FileCount): AsyncGenerator<Buffer> {
  const hash = createHash("sha256")
  let size = 0
  yield jsonFrame("F", { sha256: sha256.toString("hex") })
  try {
    for await (const chunk of source as AsyncIterable<Buffer>) {
      hash.update(chunk)
      size += chunk.length
      for (let at = 0; at < chunk.length; at += maxFrame) yield frame("C", chunk.subarray(at, at + maxFrame))
    }
  } catch {
    // A file that cannot be read to its end is damaged: `restore` leaves it out, because its hash does not match.
  }
  yield jsonFrame("Z", { size })
  count.files += 1
  count.bytes += size
  if (!hash.digest().equals(sha256)) count.damaged += 1
}

async function* framesOfFiles(hashes: Buffer, readFile: ReadFile, count: FileCount): AsyncGenerator<Buffer> {
  for (let at = 0; at < hashes.length; at += hashLength) {
    const sha256 = hashes.subarray(at, at + hashLength)
    const source = await readFile(sha256)
    if (source === undefined) count.missing += 1
    else yield* contentOf(sha256, source, count)
  }
}

async function* framesOfTable(client: Client, table: BackupTable): AsyncGenerator<Buffer> {
  yield jsonFrame("T", table)
  const rows = yield* rowsOf(client, table)
  yield jsonFrame("R", { rows })
}

/** The content of the backup, as the connection's transaction sees it. */
interface Contents {
  readonly client: Client
  readonly tables: ReadonlyArray<BackupTable>
  readonly header: BackupHeader
  readonly files: NamedFiles
  /** The estimated size of tables and files, in bytes. */
  readonly size: number
}

/** All frames of the backup. A frame is valid until `heldBlocks` others were requested. The transaction ends with the last table, so that files do not delay VACUUM. */
async function* framesOf(
  { client, files, header, size, tables }: Contents,
  { onProgress = () => {}, readFile }: BackupOptions,
  count: FileCount
): AsyncGenerator<Buffer> {
  const hash = createHash("sha256")
  let bytes = 0
  const passed = async function* (what: string, frames: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const made of frames) {
      hash.update(made)
      bytes += made.length
      onProgress({ what, bytes, done: Math.min(bytes / Math.max(size, 1), 0.99) })
      yield made
    }
  }
  const head = jsonFrame("H", header)
  hash.update(head)
  yield head
  for (const table of tables) yield* passed(table.name, framesOfTable(client, table))
  await client.query("COMMIT")
  if (readFile !== undefined) yield* passed("uploaded files", framesOfFiles(files.hashes, readFile, count))
  yield jsonFrame("E", { sha256: hash.digest("hex") })
}

/** The window of zstd, as a power of two. 512 KiB would take a tenth more time and save no space. */
const windowLog = 17

/**
 * The fastest level: a higher one makes the backup a tenth smaller and takes twice the time. The buffer holds several blocks, so that
 * the next ones are read and hashed while a thread compresses, but fewer than `heldBlocks`.
 */
const compressor = () =>
  createZstdCompress({
    chunkSize: maxFrame,
    writableHighWaterMark: (heldBlocks - 2) * blockBytes,
    params: { [constants.ZSTD_c_compressionLevel]: 1, [constants.ZSTD_c_windowLog]: windowLog }
  } as Parameters<typeof createZstdCompress>[0])

/** Limits the bytes per second. */
const throttled = (rate: number | undefined) =>
  async function* (frames: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    const begunAt = performance.now()
    let bytes = 0
    for await (const made of frames) {
      yield made
      bytes += made.length
      const early = rate === undefined ? 0 : (bytes / rate) * 1_000 - (performance.now() - begunAt)
      if (early > 1) await pauseFor(early)
    }
  }

/** The summary of a written backup. */
export interface BackupReport {
  readonly file: string
  readonly header: BackupHeader
  /** The size of the file. */
  readonly bytes: number
  /** The uploaded files in it: how many, and their bytes. */
  readonly files: number
  readonly fileBytes: number
  /** Uploaded files that the database names but that do not exist. */
  readonly missing: number
  /** Uploaded files that could not be read, or whose content has changed. `restore` leaves them out. */
  readonly damaged: number
}

const isThere = (file: string): Promise<boolean> =>
  fs.stat(file).then(
    () => true,
    () => false
  )

/** Begins the transaction whose snapshot is backed up. */
const snapshot = async (client: Client, withFiles: boolean): Promise<Contents> => {
  await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
  await client.query("SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0")
  const tables = await tablesOf(client)
  const header = await headerOf(client, tables, withFiles)
  const files = withFiles ? await filesOf(client) : { hashes: Buffer.alloc(0), bytes: 0 }
  return { client, tables, header, files, size: (await sizeOf(client, tables)) + files.bytes }
}

/** Writes the file. It gets its name once it is complete and synced. */
const write = async (options: BackupOptions): Promise<BackupReport> => {
  const { file, rate, readFile, url } = options
  if (await isThere(file)) {
    throw new BackupFailed({ message: `${file} is there already: a backup does not replace another one` })
  }
  const unfinished = `${file}.unfinished`
  const count: FileCount = { files: 0, bytes: 0, missing: 0, damaged: 0 }
  try {
    await fs.writeFile(unfinished, magic(), { mode: 0o600 })
    const header = await withClient(url, async (client) => {
      const contents = await snapshot(client, readFile !== undefined)
      await pipeline(
        framesOf(contents, options, count),
        throttled(rate),
        compressor(),
        createWriteStream(unfinished, { flags: "a", flush: true })
      )
      return contents.header
    })
    const { size } = await fs.stat(unfinished)
    await fs.rename(unfinished, file)
    await syncDirectory(path.dirname(path.resolve(file)))
    const { bytes: fileBytes, damaged, files, missing } = count
    return { file, header, bytes: size, files, fileBytes, missing, damaged }
  } catch (error) {
    await fs.rm(unfinished, { force: true })
    throw error
  }
}

/** Writes a backup. A failure leaves no file behind. */
export const backup = (options: BackupOptions): Effect.Effect<BackupReport, BackupFailed> =>
  attempt("The backup could not be made", () => write(options))
