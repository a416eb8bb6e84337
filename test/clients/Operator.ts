/**
 * Actions of a flow on its own server beside being its client: kill it, and search everything that it keeps. A flow in
 * JavaScript asks by messages to its parent process, `steps.mjs` has the other side.
 */
import type { ChildProcess } from "node:child_process"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { findRunningPostgres } from "@greenroom/store/RunningPostgres"
import { Effect, Option, Redacted } from "effect"
import pg from "pg"

export interface Operator {
  /** Kills the server, without a chance to end properly, and starts it again at the same URL. */
  readonly killAndRestart: () => Promise<void>
  /** The places where the text is kept in the clear: names of tables, and of files below the data directory. */
  readonly search: (text: string) => Promise<ReadonlyArray<string>>
}

/** The text as it may be written: as it is, in hexadecimal, and within base64 wherever it begins. */
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

/** The files with the text in them, those of PostgreSQL and its write-ahead log among them. */
const searchFiles = async (directory: string, text: string): Promise<ReadonlyArray<string>> => {
  const entries = await fs.readdir(directory, { recursive: true, withFileTypes: true })
  const found: Array<string> = []
  for (const entry of entries) {
    if (!entry.isFile()) continue
    const file = path.join(entry.parentPath, entry.name)
    // A file may go while the others are read.
    const bytes = await fs.readFile(file).catch(() => Buffer.alloc(0))
    if (formsOf(text).some((form) => bytes.includes(form))) found.push(`file ${path.relative(directory, file)}`)
  }
  return found
}

/** Everywhere below `dataDir`, the data directory of a gateway that runs. */
export const searchEverything = async (dataDir: string, text: string): Promise<ReadonlyArray<string>> => {
  const url = Option.getOrThrow(await Effect.runPromise(findRunningPostgres(dataDir)))
  return [...(await searchTables(Redacted.value(url), text)), ...(await searchFiles(dataDir, text))]
}

interface Question {
  readonly id: number
  readonly call: keyof Operator
  readonly text?: string
}

/** Does for a flow what it asks for, where the server has an operator. */
export const serveOperator = (child: ChildProcess, operator: Operator | undefined): void => {
  const answerTo = async ({ call, text = "" }: Question) => {
    if (operator === undefined) return { absent: true }
    return { result: call === "search" ? await operator.search(text) : await operator.killAndRestart() }
  }
  child.on("message", (question: Question) => {
    answerTo(question)
      .catch((error) => ({ error: String(error) }))
      .then((answer) => child.connected && child.send({ id: question.id, ...answer }))
  })
}
