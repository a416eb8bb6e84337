/**
 * Reading and writing JSON bodies of many megabytes without holding the event loop: an object whose lists are long, as
 * transactions and the state of a room are, goes entry by entry, within the bounds of `internal/ListReader.ts`.
 */
import { type Json, type JsonObject, nestsWithin } from "@greenroom/protocol/Json"
import { CanonicalJsonError, compareCodePoints, encode } from "@greenroom/room/CanonicalJson"
import { Effect, Result } from "effect"
import { sliced } from "../runtime/Slices.ts"
import { fail, isSpace, ListReader, maxDepth, maxEntryBytes, type Parse, parsed } from "./internal/ListReader.ts"
import { JsonSyntaxError } from "./JsonSyntaxError.ts"

/** Up to this many bytes are read at once. */
export const smallBytes = 128 * 1024

const openBracket = 0x5b
const openBrace = 0x7b

const beginsObject = (bytes: Buffer): boolean => bytes[bytes.findIndex((byte) => !isSpace(byte))] === openBrace

/** Whether there are so many arrays and objects that they may nest deeper than `maxDepth`. */
const mayBeDeep = (bytes: Buffer): boolean => {
  let count = 0
  for (const byte of bytes) if (byte === openBracket || byte === openBrace) count++
  return count > maxDepth
}

/** A body that is no object is read at once. */
function* readBody(bytes: Buffer, parse: Parse): Generator<void, Json> {
  if (beginsObject(bytes)) return yield* new ListReader(new Set(), parse).steps(bytes)
  if (bytes.length > maxEntryBytes) return fail("it is not an object, and long", true)
  const value = parsed(bytes, parse)
  return nestsWithin(value, maxDepth) ? value : fail(`it nests deeper than ${maxDepth} levels`, true)
}

function* resultOf(reading: Generator<void, Json>): Generator<void, Result.Result<Json, JsonSyntaxError>> {
  try {
    return Result.succeed(yield* reading)
  } catch (error) {
    if (error instanceof JsonSyntaxError) return Result.fail(error)
    throw error
  }
}

/**
 * Reads JSON. Fails for anything else, and for what would become too much, or nests so deep that it could not be written again. `parse`
 * may be that of `ExactJson`, for bodies with PDUs.
 */
export const parseJson = (bytes: Uint8Array, parse: Parse = JSON.parse): Effect.Effect<Json, JsonSyntaxError> => {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  return buffer.length <= smallBytes && !mayBeDeep(buffer)
    ? Effect.try({ try: () => parsed(buffer, parse), catch: (error) => error as JsonSyntaxError })
    : Effect.flatMap(
        sliced(() => resultOf(readBody(buffer, parse))),
        Effect.fromResult
      )
}

type Encode = (value: Json) => Result.Result<string, CanonicalJsonError>

const canonical: Encode = (value) => encode(value, "any")

const plain: Encode = (value) => Result.succeed(JSON.stringify(value))

/** Text that becomes bytes piece by piece. */
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
