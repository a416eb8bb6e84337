/**
 * Reading and writing JSON bodies of many megabytes without holding the event loop: an object whose lists are long, as
 * transactions and the state of a room are, goes entry by entry. No single entry may be longer than `maxEntryBytes`.
 *
 * The size of the parsed body is bounded before it is parsed: a few bytes such as `{},` become an object of many. Entries,
 * values and their nesting are counted while the ends of the entries are looked for.
 */
import { isUtf8 } from "node:buffer"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { CanonicalJsonError, compareCodePoints, encode } from "@greenroom/room/CanonicalJson"
import { Effect, Result, Schema } from "effect"
import { sliced } from "../runtime/Slices.ts"
import {
  backslash,
  closeBrace,
  closeBracket,
  colon,
  comma,
  openBrace,
  openBracket,
  quote
} from "./internal/jsonBytes.ts"

/** Bytes that are not JSON, or have too long an entry. */
export class JsonSyntaxError extends Schema.TaggedError<JsonSyntaxError>()("JsonSyntaxError", {
  reason: Schema.String,
  /** It may be JSON, but an entry is longer than `maxEntryBytes`. */
  isTooLong: Schema.Boolean
}) {}

/** Up to this many bytes are read at once. */
export const smallBytes = 128 * 1024

/** The longest value, in bytes, that is read at once: in a list, or beside one. */
export const maxEntryBytes = 2 * 1024 * 1024

/** The most entries of lists, and keys of the outermost object, in a body that is read entry by entry. */
export const maxEntries = 120_000

/** The most values, those inside of others counted too: the state of a room of 30,000 events has about 2 million. */
export const maxValues = 5_000_000

/** How deep arrays and objects may nest in such a body. Canonical JSON allows less. */
export const maxDepth = 300

const fail = (reason: string, isTooLong = false): never => {
  throw new JsonSyntaxError({ reason, isTooLong })
}

/** Reads a text. Throws where it is not JSON. */
type Parse = (text: string) => Json

/** Finds where values begin and end; `parse` reads them. */
class Scanner {
  readonly bytes: Buffer
  readonly parse: Parse
  position = 0
  private entries = 0
  private values = 0

  constructor(bytes: Buffer, parse: Parse) {
    this.bytes = bytes
    this.parse = parse
  }

  /** The next byte that is no space. */
  peek(): number {
    for (;;) {
      const byte = this.bytes[this.position]
      if (byte === undefined) return fail("it ends too early")
      if (byte !== 0x20 && byte !== 0x0a && byte !== 0x0d && byte !== 0x09) return byte
      this.position++
    }
  }

  /** Whether the next byte is this one; moves past it then. */
  accept(byte: number): boolean {
    if (this.peek() !== byte) return false
    this.position++
    return true
  }

  expect(byte: number): void {
    if (!this.accept(byte)) fail(`expected ${String.fromCharCode(byte)} at byte ${this.position}`)
  }

  /** Another entry of a list, or key of the outermost object. */
  countEntry(): void {
    if (++this.entries > maxEntries) fail(`it has more than ${maxEntries} entries`, true)
  }

  /** Reads the value that begins here. */
  value(): Json {
    this.peek()
    const start = this.position
    this.skip(start + maxEntryBytes)
    return parsed(this.bytes.toString("utf8", start, this.position), this.parse)
  }

  /** Moves to the end of the value. Malformed values end somewhere, and fail when they are parsed. */
  private skip(limit: number): void {
    let depth = 0
    for (;;) {
      const byte = this.bytes[this.position]
      if (byte === quote) this.skipString(limit)
      else if (byte === openBrace || byte === openBracket) {
        if (++depth > maxDepth) fail(`it nests deeper than ${maxDepth} levels`, true)
        this.values++
      } else if (byte === closeBrace || byte === closeBracket) {
        if (depth === 0) return
        depth--
      } else if (byte === comma) {
        if (depth === 0) return
        if (++this.values > maxValues) fail(`it has more than ${maxValues} values`, true)
      }
      if (this.position >= limit) fail(`a single value is longer than ${maxEntryBytes} bytes`, true)
      if (this.position >= this.bytes.length) fail("it ends too early")
      this.position++
      if (depth === 0 && (byte === quote || byte === closeBrace || byte === closeBracket)) return
    }
  }

  /** Moves to the quote that ends the string. */
  private skipString(limit: number): void {
    let at = this.position + 1
    while (at < limit && this.bytes[at] !== quote) at += this.bytes[at] === backslash ? 2 : 1
    this.position = at
  }
}

const parsed = (text: string, parse: Parse): Json => {
  try {
    return parse(text)
  } catch {
    return fail("it cannot be parsed")
  }
}

function* readList(scanner: Scanner): Generator<void, Json> {
  const list: Array<Json> = []
  scanner.expect(openBracket)
  if (scanner.accept(closeBracket)) return list
  do {
    scanner.countEntry()
    list.push(scanner.value())
    yield
  } while (scanner.accept(comma))
  scanner.expect(closeBracket)
  return list
}

function* readObject(scanner: Scanner): Generator<void, Json> {
  const object: Record<string, Json> = {}
  scanner.expect(openBrace)
  if (scanner.accept(closeBrace)) return object
  do {
    if (scanner.peek() !== quote) fail("expected a key")
    scanner.countEntry()
    const key = scanner.value()
    scanner.expect(colon)
    const value = scanner.peek() === openBracket ? yield* readList(scanner) : scanner.value()
    Object.defineProperty(object, key as string, { value, enumerable: true, configurable: true, writable: true })
    yield
  } while (scanner.accept(comma))
  scanner.expect(closeBrace)
  return object
}

/** A body that is no object is read at once. */
const parseValue = (bytes: Buffer, parse: Parse): Json =>
  bytes.length > maxEntryBytes ? fail("it is not an object, and long", true) : parsed(bytes.toString("utf8"), parse)

function* readBody(bytes: Buffer, parse: Parse): Generator<void, Result.Result<Json, JsonSyntaxError>> {
  try {
    const scanner = new Scanner(bytes, parse)
    if (scanner.peek() !== openBrace) return Result.succeed(parseValue(bytes, parse))
    const object = yield* readObject(scanner)
    const rest = bytes.toString("utf8", scanner.position, scanner.position + 1024)
    return rest.trim() === "" ? Result.succeed(object) : fail("something follows the object")
  } catch (error) {
    if (error instanceof JsonSyntaxError) return Result.fail(error)
    throw error
  }
}

const parseAtOnce = (bytes: Buffer, parse: Parse): Effect.Effect<Json, JsonSyntaxError> =>
  Effect.try({
    try: () => parsed(bytes.toString("utf8"), parse),
    catch: (error) => error as JsonSyntaxError
  })

/**
 * Reads JSON. Fails for anything else, and for a single value that is too long. `parse` may be that of `ExactJson`, for bodies
 * with PDUs.
 */
export const parseJson = (bytes: Uint8Array, parse: Parse = JSON.parse): Effect.Effect<Json, JsonSyntaxError> => {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (!isUtf8(buffer)) return Effect.fail(new JsonSyntaxError({ reason: "it is not UTF-8", isTooLong: false }))
  return buffer.length <= smallBytes
    ? parseAtOnce(buffer, parse)
    : Effect.flatMap(
        sliced(() => readBody(buffer, parse)),
        Effect.fromResult
      )
}

const canonical: Encode = (value) => encode(value, "any")

type Encode = (value: Json) => Result.Result<string, CanonicalJsonError>

const plain: Encode = (value) => Result.succeed(JSON.stringify(value))

/** Text that becomes bytes bit by bit. */
class Output {
  private readonly chunks: Array<Buffer> = []
  private text = ""

  add(text: string): void {
    this.text += text
    if (this.text.length > smallBytes) this.flush()
  }

  end(): Buffer {
    this.flush()
    return this.chunks.length === 1 ? this.chunks[0]! : Buffer.concat(this.chunks)
  }

  private flush(): void {
    this.chunks.push(Buffer.from(this.text, "utf8"))
    this.text = ""
  }
}

function* writeList(list: ReadonlyArray<Json>, encode: Encode, output: Output): Generator<void> {
  let before = "["
  for (const entry of list) {
    output.add(before + Result.getOrThrow(encode(entry)))
    before = ","
    yield
  }
  output.add(list.length === 0 ? "[]" : "]")
}

/** The object as UTF-8, `encode` for each entry of a list in it and for each other value. */
function* write(object: JsonObject, keys: ReadonlyArray<string>, encode: Encode): Generator<void, Buffer> {
  const output = new Output()
  let before = "{"
  for (const key of keys) {
    const value = object[key]
    if (value === undefined) continue
    output.add(`${before}${Result.getOrThrow(encode(key))}:`)
    before = ","
    if (Array.isArray(value)) yield* writeList(value, encode, output)
    else output.add(Result.getOrThrow(encode(value)))
    yield
  }
  output.add(before === "{" ? "{}" : "}")
  return output.end()
}

function* writeCanonical(object: JsonObject): Generator<void, Result.Result<Buffer, CanonicalJsonError>> {
  try {
    return Result.succeed(yield* write(object, Object.keys(object).sort(compareCodePoints), canonical))
  } catch (error) {
    if (error instanceof CanonicalJsonError) return Result.fail(error)
    throw error
  }
}

/** The canonical JSON of an object, as UTF-8, whose numbers may be those of PDUs of room versions 1 to 5. */
export const encodeCanonicalJson = (object: JsonObject): Effect.Effect<Buffer, CanonicalJsonError> =>
  Effect.flatMap(
    sliced(() => writeCanonical(object)),
    Effect.fromResult
  )

/** The JSON of an object, as UTF-8, its keys in their order. */
export const encodeJson = (object: JsonObject): Effect.Effect<Buffer> =>
  sliced(() => write(object, Object.keys(object), plain))
