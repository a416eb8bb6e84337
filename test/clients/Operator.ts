/**
 * Actions of a flow on its own server: it can kill the server, and search its data. A flow in JavaScript sends messages to its parent
 * process, as `steps.mjs` does.
 */
import type { ChildProcess } from "node:child_process"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { findRunningPostgres } from "@greenroom/store/RunningPostgres"
import { Effect, Option, Redacted } from "effect"
import pg from "pg"

export interface Operator {
  /** Kills the server, and starts it again at the same URL. */
  readonly killAndRestart: () => Promise<void>
  /** The tables and files of the data directory that contain the text unencrypted. */
  readonly search: (text: string) => Promise<ReadonlyArray<string>>
}

/** The text itself, in hexadecimal, and in base64 at every alignment. */
const formsOf = (text: string): ReadonlyArray<string> => {
  const bytes = Buffer.from(text)
  const shifted = [0, 1, 2].map((skipped) => {
    const aligned = bytes.subarray(skipped)
    return aligned.subarray(0, aligned.length - (aligned.length % 3)).toString("base64")
  })
  return [text, bytes.toString("hex"), ...shifted]
}

/** The tables with a row that contains the text. All columns are read as text, binary ones in hexadecimal. */
const searchTables = async (url: string, text: string): Promise<ReadonlyArray<string>> => {
  const client = new pg.Client(url)
  await client.connect()
  try {
    const { rows } = await client.query<{ name: string }>(
      "SELECT quote_ident(tablename) AS name FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
    )
    const patterns = formsOf(text).map((form) => `%${form}%`)
    const found: Array<string> = []
    for (const { name } of rows) {
      const { rowCount } = await client.query(`SELECT 1 FROM ${name} AS kept WHERE kept::text ILIKE ANY ($1) LIMIT 1`, [
        patterns
      ])
      if (rowCount !== 0) found.push(`table ${name}`)
    }
    return found
  } finally {
    await client.end()
  }
}

/** The files that contain the text, including those of PostgreSQL and its write-ahead log. */
const searchFiles = async (directory: string, text: string): Promise<ReadonlyArray<string>> => {
  const entries = await fs.readdir(directory, { recursive: true, withFileTypes: true })
  const found: Array<string> = []
  for (const entry of entries) {
    if (!entry.isFile()) continue
    const file = path.join(entry.parentPath, entry.name)
    // A file may be removed during the search.
    const bytes = await fs.readFile(file).catch(() => Buffer.alloc(0))
    if (formsOf(text).some((form) => bytes.includes(form))) found.push(`file ${path.relative(directory, file)}`)
  }
  return found
}

/** Searches the data directory of a running gateway. */
export const searchEverything = async (dataDir: string, text: string): Promise<ReadonlyArray<string>> => {
  const url = Option.getOrThrow(await Effect.runPromise(findRunningPostgres(dataDir)))
  return [...(await searchTables(Redacted.value(url), text)), ...(await searchFiles(dataDir, text))]
}

interface OperatorRequest {
  readonly id: number
  readonly call: keyof Operator
  readonly text?: string
}

/** Performs the requested actions of a flow, if its server has an operator. */
export const serveOperator = (child: ChildProcess, operator: Operator | undefined): void => {
  const answerTo = async ({ call, text = "" }: OperatorRequest) => {
    if (operator === undefined) return { absent: true }
    return { result: call === "search" ? await operator.search(text) : await operator.killAndRestart() }
  }
  child.on("message", (request: OperatorRequest) => {
    answerTo(request)
      .catch((error) => ({ error: String(error) }))
      .then((answer) => child.connected && child.send({ id: request.id, ...answer }))
  })
}
