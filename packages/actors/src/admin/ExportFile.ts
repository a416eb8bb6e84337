/**
 * The data of a user as a file of JSON lines: a header, one line for each part, and an end that has the number of parts and the
 * SHA-256 of all lines before it.
 *
 * `UserExports` writes such files. The command `greenroom import` reads them, and refuses a file that is cut off, changed, of
 * another server or of a newer version before it changes anything.
 */
import { createHash } from "node:crypto"
import { createReadStream } from "node:fs"
import type { ServerName, UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type JsonObject, parseJsonText } from "@greenroom/protocol/Json"
import type { ExportedPart } from "@greenroom/store/UserExportStore"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"

/** The newest version of the format, which is written. */
const newestExport = 1

/** The first line of an export. */
export interface ExportHeader {
  readonly type: "header"
  readonly format: "greenroom-export"
  readonly version: number
  readonly server_name: ServerName
  readonly user_id: UserId
  /** In milliseconds since 1970. */
  readonly created_ts: number
}

/** The file cannot be imported; the message is for the operator. */
export class ExportUnreadable extends Data.TaggedError("ExportUnreadable")<{ readonly message: string }> {}

/** The longest line that is read, in bytes. A part has at most a contact with its photo. */
const maxLine = 64 * 1024 * 1024

const lineOf = (part: object): string => `${JSON.stringify(part)}\n`

/** An export as bytes. */
export const sealed = (
  header: Omit<ExportHeader, "type" | "format" | "version">,
  parts: Stream.Stream<ExportedPart>
): Stream.Stream<Uint8Array> =>
  Stream.suspend(() => {
    const hash = createHash("sha256")
    let count = 0
    const hashed = (line: string): string => {
      hash.update(line)
      return line
    }
    const first = lineOf({ type: "header", format: "greenroom-export", version: newestExport, ...header })
    const lines = Stream.map(parts, (part) => {
      count += 1
      return hashed(lineOf(part))
    })
    const end = Stream.suspend(() => Stream.make(lineOf({ type: "end", parts: count, sha256: hash.digest("hex") })))
    return Stream.encodeText(Stream.concat(Stream.concat(Stream.make(hashed(first)), lines), end))
  })

const refuse = (file: string, problem: string): ExportUnreadable =>
  new ExportUnreadable({ message: `${file} ${problem}. Nothing was imported.` })

/** The lines of a file, with their ends. */
async function* linesOf(file: string): AsyncGenerator<Buffer> {
  let open: Array<Buffer> = []
  let length = 0
  for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
    let at = 0
    for (let end = chunk.indexOf(10); end !== -1; end = chunk.indexOf(10, at)) {
      yield Buffer.concat([...open, chunk.subarray(at, end + 1)])
      open = []
      length = 0
      at = end + 1
    }
    open.push(chunk.subarray(at))
    length += chunk.length - at
    if (length > maxLine) throw refuse(file, "has a line that is too long for an export")
  }
  if (length > 0) yield Buffer.concat(open)
}

const objectOf = (line: Buffer): JsonObject | undefined => {
  const value = parseJsonText(line.toString())
  return isJsonObject(value) ? value : undefined
}

const headerOf = (file: string, line: Buffer, serverName: ServerName): ExportHeader => {
  const found = objectOf(line)
  if (found?.type !== "header" || found.format !== "greenroom-export")
    throw refuse(file, "is not an export of Greenroom")
  const header = found as unknown as ExportHeader
  if (!(header.version <= newestExport)) {
    throw refuse(file, "is an export of a newer Greenroom: import it with that one")
  }
  if (header.server_name !== serverName) {
    throw refuse(file, `is an export of the server ${header.server_name}, and this one is ${serverName}`)
  }
  return header
}

const check = async (file: string, serverName: ServerName): Promise<ExportHeader> => {
  const hash = createHash("sha256")
  let header: ExportHeader | undefined
  let lines = 0
  let before: Buffer | undefined
  for await (const line of linesOf(file)) {
    header ??= headerOf(file, line, serverName)
    if (before !== undefined) hash.update(before)
    before = line
    lines += 1
  }
  if (header === undefined || before === undefined) throw refuse(file, "is empty")
  const end = before.at(-1) === 10 ? objectOf(before) : undefined
  if (end?.type !== "end") throw refuse(file, "is cut off")
  if (end.sha256 !== hash.digest("hex") || end.parts !== lines - 2) throw refuse(file, "was changed or is damaged")
  return header
}

const attempt = <A>(file: string, read: () => Promise<A>): Effect.Effect<A, ExportUnreadable> =>
  Effect.tryPromise({
    try: read,
    catch: (error) =>
      error instanceof ExportUnreadable ? error : refuse(file, `cannot be read: ${(error as Error).message}`)
  })

/** Reads the whole file, and checks that it is an export of this server that this program understands. */
export const checkExport = (file: string, serverName: ServerName): Effect.Effect<ExportHeader, ExportUnreadable> =>
  attempt(file, () => check(file, serverName))

/** Whether a file claims to be an export. The rest of it is not checked. */
export const isExport = (file: string): Effect.Effect<boolean, ExportUnreadable> =>
  attempt(file, async () => {
    for await (const line of createReadStream(file, { end: 63 })) return /^\s*\{/.test(String(line))
    return false
  })

/** The contacts of an export that `checkExport` has checked, as an array of jCards. */
export async function* contactsOf(file: string): AsyncGenerator<Buffer> {
  let separator = "["
  for await (const line of linesOf(file)) {
    const part = objectOf(line)
    if (part?.type !== "contact") continue
    yield Buffer.from(`${separator}${JSON.stringify(part.card)}`)
    separator = ",\n"
  }
  yield Buffer.from(separator === "[" ? "[]" : "]")
}
