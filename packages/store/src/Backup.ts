/**
 * A backup of the database as one file, made while the server runs: all tables as they were at one instant
 * (`REPEATABLE READ`). It needs no programs of PostgreSQL, which the embedded one does not bring, and is read by any later
 * version of Greenroom on any version of PostgreSQL (`Restore.ts`).
 *
 * The file is the line `greenroom-backup 1`, then frames, compressed by zstd. A frame is a byte for its type, its length in
 * four bytes, and its payload:
 *
 * | type | payload |
 * |---|---|
 * | `H` | JSON: `BackupHeader` |
 * | `T` | JSON: a table begins, its name and columns |
 * | `D` | rows of the table, as COPY writes them |
 * | `R` | JSON: the table ends, and how many rows it has |
 * | `E` | JSON: the end, with the SHA-256 of all frames before it |
 */
import { createHash } from "node:crypto"
import { createWriteStream } from "node:fs"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { Readable } from "node:stream"
import { pipeline } from "node:stream/promises"
import { setTimeout as pauseFor } from "node:timers/promises"
import { createZstdCompress } from "node:zlib"
import { Data, Effect, Redacted } from "effect"
import type { Client } from "pg"

/** The first line of the file. */
export const magic = "greenroom-backup 1\n"

/** What a backup says of itself. */
export interface BackupHeader {
  readonly server_name: string
  /** The version of the database: the number of its newest migration. */
  readonly migration: number
  readonly created_ts: number
  readonly tables: ReadonlyArray<string>
  /** The last value of each sequence. */
  readonly sequences: { readonly [name: string]: string }
}

/** A table within a backup. */
export interface BackupTable {
  readonly name: string
  readonly columns: ReadonlyArray<string>
}

/** The backup could not be made or restored; the message is for the operator. */
export class BackupFailed extends Data.TaggedError("BackupFailed")<{ readonly message: string }> {}

/** How far it is: the table that is being copied, and bytes before compression. */
export interface BackupProgress {
  readonly table: string
  readonly bytes: number
}

export interface BackupOptions {
  readonly url: Redacted.Redacted
  /** Must not be there yet. */
  readonly file: string
  /** At most so many bytes a second, before compression. Default: as fast as it goes. */
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

/** The columns of a table as COPY names them. */
export const copyTarget = ({ columns, name }: BackupTable): string =>
  `${quoted(name)} (${columns.map(quoted).join(", ")})`

/** A connection until `use` ends. */
export const withClient = async <A>(url: Redacted.Redacted, use: (client: Client) => Promise<A>): Promise<A> => {
  const pg = await import("pg")
  const client = new pg.default.Client({ connectionString: Redacted.value(url), application_name: "greenroom backup" })
  // A connection that breaks fails the query that is under way.
  client.on("error", () => {})
  await client.connect()
  try {
    return await use(client)
  } finally {
    await client.end()
  }
}

/** Runs a part of a backup, with errors for the operator. */
export const attempt = <A>(what: string, run: () => Promise<A>): Effect.Effect<A, BackupFailed> =>
  Effect.tryPromise({
    try: run,
    catch: (error) =>
      error instanceof BackupFailed
        ? error
        : new BackupFailed({ message: `${what}: ${error instanceof Error ? error.message : error}` })
  })

const frame = (type: string, payload: Buffer): Buffer => {
  const head = Buffer.alloc(5)
  head.write(type, 0, "latin1")
  head.writeUInt32BE(payload.length, 1)
  return Buffer.concat([head, payload])
}

const jsonFrame = (type: string, value: unknown): Buffer => frame(type, Buffer.from(JSON.stringify(value)))

/** The tables with rows to keep, those that others refer to first. */
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

const headerOf = async (client: Client, tables: ReadonlyArray<BackupTable>): Promise<BackupHeader> => {
  const { rows } = await client.query<{ server_name: string | null; migration: number | null }>(`
    SELECT (SELECT value FROM server_settings WHERE name = 'server_name') AS server_name,
      (SELECT max(migration_id) FROM migrations) AS migration`)
  const { rows: sequences } = await client.query<{ name: string; value: string }>(`
    SELECT sequencename AS name, last_value::text AS value FROM pg_sequences
    WHERE schemaname = current_schema() AND last_value IS NOT NULL`)
  const { migration, server_name } = rows[0]!
  if (server_name === null || migration === null) {
    throw new BackupFailed({ message: "No home server has used this database yet" })
  }
  return {
    server_name,
    migration,
    created_ts: Date.now(),
    tables: tables.map(({ name }) => name),
    sequences: Object.fromEntries(sequences.map(({ name, value }) => [name, value]))
  }
}

async function* rowsOf(client: Client, table: BackupTable): AsyncGenerator<Buffer, number> {
  const { to } = await import("pg-copy-streams")
  const stream = client.query(to(`COPY ${copyTarget(table)} TO STDOUT`))
  for await (const chunk of stream as AsyncIterable<Buffer>) {
    for (let at = 0; at < chunk.length; at += maxFrame) yield frame("D", chunk.subarray(at, at + maxFrame))
  }
  return stream.rowCount
}

/** All frames of the backup, from the snapshot of the transaction that the connection is in. */
async function* framesOf(
  client: Client,
  tables: ReadonlyArray<BackupTable>,
  header: BackupHeader,
  onProgress: (progress: BackupProgress) => void
): AsyncGenerator<Buffer> {
  const hash = createHash("sha256")
  const hashed = (made: Buffer): Buffer => {
    hash.update(made)
    return made
  }
  let bytes = 0
  yield hashed(jsonFrame("H", header))
  for (const table of tables) {
    yield hashed(jsonFrame("T", table))
    const copied = rowsOf(client, table)
    let next = await copied.next()
    while (!next.done) {
      yield hashed(next.value)
      bytes += next.value.length
      onProgress({ table: table.name, bytes })
      next = await copied.next()
    }
    yield hashed(jsonFrame("R", { rows: next.value }))
  }
  yield jsonFrame("E", { sha256: hash.digest("hex") })
}

/** Lets so many bytes a second pass. */
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

/** What was written. */
export interface BackupReport {
  readonly file: string
  readonly header: BackupHeader
  /** The size of the file. */
  readonly bytes: number
}

const isThere = (file: string): Promise<boolean> =>
  fs.stat(file).then(
    () => true,
    () => false
  )

/** The file appears under its name when it is whole and on the disk. */
const write = async ({ file, onProgress = () => {}, rate, url }: BackupOptions): Promise<BackupReport> => {
  if (await isThere(file)) {
    throw new BackupFailed({ message: `${file} is there already: a backup does not replace another one` })
  }
  const unfinished = `${file}.unfinished`
  try {
    await fs.writeFile(unfinished, magic, { mode: 0o600 })
    const header = await withClient(url, async (client) => {
      await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
      await client.query("SET LOCAL idle_in_transaction_session_timeout = 0; SET LOCAL statement_timeout = 0")
      const tables = await tablesOf(client)
      const header = await headerOf(client, tables)
      await pipeline(
        Readable.from(framesOf(client, tables, header, onProgress)),
        throttled(rate),
        createZstdCompress(),
        createWriteStream(unfinished, { flags: "a", flush: true })
      )
      return header
    })
    const { size } = await fs.stat(unfinished)
    await fs.rename(unfinished, file)
    await syncDirectory(path.dirname(path.resolve(file)))
    return { file, header, bytes: size }
  } catch (error) {
    await fs.rm(unfinished, { force: true })
    throw error
  }
}

const syncDirectory = async (directory: string): Promise<void> => {
  const handle = await fs.open(directory, "r")
  await handle.sync().finally(() => handle.close())
}

/** Writes a backup of the database. What fails leaves no file behind. */
export const backup = (options: BackupOptions): Effect.Effect<BackupReport, BackupFailed> =>
  attempt("The backup could not be made", () => write(options))
