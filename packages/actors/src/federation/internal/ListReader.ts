/**
 * Reads a JSON object whose lists are long, as transactions and the state of a room are: value by value, the lists entry by
 * entry. A caller that has the whole body stops between two entries (`steps`); one that gets it piece by piece works on the
 * entries while the rest arrives (`push`), and the body is never in memory at once.
 *
 * What the bytes become is bounded before it is made: a few bytes such as `{},` become an object of many. Entries, values and
 * their nesting are counted during the search for the ends of the entries.
 */
import { isUtf8 } from "node:buffer"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { ByteCollector } from "../../runtime/ByteCollector.ts"
import { JsonSyntaxError } from "../JsonSyntaxError.ts"

/** The longest value, in bytes, that is parsed at once: in a list, or beside one. */
export const maxEntryBytes = 2 * 1024 * 1024

/** The most entries of lists, and keys of the outermost object. */
export const maxEntries = 120_000

/** The most values, those inside of others counted too: the state of a room of 30,000 events has about 2 million. */
export const maxValues = 5_000_000

/** How deep arrays and objects may nest. Canonical JSON allows less. An entry of a list that is deeper becomes null: the others count. */
export const maxDepth = 300

/** Arriving bytes are gathered up to this many before they are read. */
const defaultReadAtOnce = 32 * 1024

const quote = 0x22
const comma = 0x2c
const colon = 0x3a
const backslash = 0x5c
const openBracket = 0x5b
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d

/** Parses a text. Throws where it is not JSON. */
export type Parse = (text: string) => Json

export const isSpace = (byte: number): boolean => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09

/** Fails with `JsonSyntaxError`. */
export const fail = (reason: string, isTooLong = false): never => {
  throw new JsonSyntaxError({ reason, isTooLong })
}

/** The value of UTF-8 text, by `parse`. Throws `JsonSyntaxError`. */
export const parsed = (bytes: Buffer, parse: Parse): Json => {
  if (!isUtf8(bytes)) fail("it is not UTF-8")
  try {
    return parse(bytes.toString("utf8"))
  } catch {
    return fail("it cannot be parsed")
  }
}

/** What comes next. */
type Expected =
  | "object"
  | "key or end"
  | "key"
  | "colon"
  | "value"
  | "comma or end"
  | "entry or end of list"
  | "entry"
  | "comma or end of list"
  | "nothing"

/** An entry of a list that is handed over. */
export interface ListEntry {
  readonly list: string
  readonly value: Json
}

/** Methods throw `JsonSyntaxError`. */
export class ListReader {
  private readonly handedOver: ReadonlySet<string>
  private readonly parse: Parse
  private readonly readAtOnce: number
  private readonly object: Record<string, Json> = {}
  private found: Array<ListEntry> = []
  private expected: Expected = "object"
  private key = ""
  private list: Array<Json> = []
  private readonly arrived = new ByteCollector()
  /** The bytes that are read now, and where the next of them is. */
  private bytes: Buffer = Buffer.alloc(0)
  private position = 0
  /** How far the current value was scanned, and the state of the scan there. */
  private looked = 0
  private depth = 0
  private isTooDeep = false
  private inString = false
  private entries = 0
  private values = 0

  /** `handedOver`: the keys whose lists are handed over by `take`; in the object they are empty. */
  constructor(handedOver: ReadonlySet<string>, parse: Parse, readAtOnce = defaultReadAtOnce) {
    this.handedOver = handedOver
    this.parse = parse
    this.readAtOnce = readAtOnce
  }

  /** Adds bytes as they arrive. */
  push(chunk: Buffer): void {
    this.arrived.add(chunk)
    if (this.arrived.length >= this.readAtOnce) this.read()
  }

  /** Reads a whole body, and yields after each entry of a list and each other value. */
  *steps(body: Buffer): Generator<void, JsonObject> {
    this.bytes = body
    while (this.step()) {
      if (this.expected === "comma or end of list" || this.expected === "comma or end") yield
    }
    return this.end()
  }

  /** The entries that were found since this was called last. */
  take(): ReadonlyArray<ListEntry> {
    const taken = this.found
    this.found = []
    return taken
  }

  /** How many entries wait to be taken. */
  get waiting(): number {
    return this.found.length
  }

  /** The object, when all bytes have arrived. The last entries are to be taken after this. */
  end(): JsonObject {
    if (this.arrived.length > 0) this.read()
    if (this.expected !== "nothing") fail("it ends too early")
    return this.object
  }

  private read(): void {
    this.looked -= this.position
    this.bytes = Buffer.concat([this.bytes.subarray(this.position), this.arrived.take()])
    this.position = 0
    while (this.step());
  }

  /** Reads what is expected next. False if it has not arrived whole. */
  private step(): boolean {
    while (this.position < this.bytes.length && isSpace(this.bytes[this.position]!)) this.position++
    if (this.position >= this.bytes.length) return false
    const byte = this.bytes[this.position]!
    switch (this.expected) {
      case "object":
        return byte === openBrace ? this.pass("key or end") : fail("it is not an object")
      case "key or end":
        return byte === closeBrace ? this.pass("nothing") : this.readKey(byte)
      case "key":
        return this.readKey(byte)
      case "colon":
        return byte === colon ? this.pass("value") : fail("expected a colon")
      case "value":
        return byte === openBracket ? this.beginList() : this.readValue()
      case "comma or end":
        return byte === comma ? this.pass("key") : byte === closeBrace ? this.pass("nothing") : fail("expected a comma")
      case "entry or end of list":
        return byte === closeBracket ? this.pass("comma or end") : this.readEntry()
      case "entry":
        return this.readEntry()
      case "comma or end of list":
        return byte === comma
          ? this.pass("entry")
          : byte === closeBracket
            ? this.pass("comma or end")
            : fail("expected a comma")
      case "nothing":
        return fail("something follows the object")
    }
  }

  /** Moves past a byte. */
  private pass(next: Expected): true {
    this.position++
    this.looked = this.position
    this.expected = next
    return true
  }

  private beginList(): true {
    this.list = []
    this.set(this.key, this.list)
    return this.pass("entry or end of list")
  }

  private readKey(byte: number): boolean {
    if (byte !== quote) fail("expected a key")
    const key = this.whole()
    if (key === undefined) return false
    this.countEntry()
    this.key = key as string
    this.expected = "colon"
    return true
  }

  private readValue(): boolean {
    const value = this.whole()
    if (value === undefined) return false
    this.set(this.key, value)
    this.expected = "comma or end"
    return true
  }

  private readEntry(): boolean {
    const value = this.whole(null)
    if (value === undefined) return false
    this.countEntry()
    if (this.handedOver.has(this.key)) this.found.push({ list: this.key, value })
    else this.list.push(value)
    this.expected = "comma or end of list"
    return true
  }

  private set(key: string, value: Json): void {
    Object.defineProperty(this.object, key, { value, enumerable: true, configurable: true, writable: true })
  }

  private countEntry(): void {
    if (++this.entries > maxEntries) fail(`it has more than ${maxEntries} entries`, true)
  }

  /** The value that begins here; undefined if it has not arrived whole. `tooDeep` replaces one that nests too deep. */
  private whole(tooDeep?: null): Json | undefined {
    const start = this.position
    const end = this.endOfValue(start)
    if (this.isTooDeep && tooDeep === undefined) fail(`it nests deeper than ${maxDepth} levels`, true)
    if (end === undefined) return undefined
    const { isTooDeep } = this
    this.isTooDeep = false
    this.position = end
    this.looked = end
    this.depth = 0
    this.inString = false
    return isTooDeep ? null : parsed(this.bytes.subarray(start, end), this.parse)
  }

  /** The index after the value. For malformed values it is any index; they fail when they are parsed. */
  private endOfValue(start: number): number | undefined {
    const { bytes } = this
    const limit = Math.min(bytes.length, start + maxEntryBytes)
    let at = Math.max(start, this.looked)
    while (at < limit) {
      if (this.inString) {
        at = this.endOfString(at, limit)
        if (!this.inString && this.depth === 0) return at
        continue
      }
      const byte = bytes[at]
      if (byte === quote) this.inString = true
      else if (byte === openBrace || byte === openBracket) this.open()
      else if (byte === closeBrace || byte === closeBracket) {
        if (this.depth === 0) return at
        if (--this.depth === 0) return at + 1
      } else if (byte === comma) {
        if (this.depth === 0) return at
        this.countValue()
      }
      at++
    }
    this.looked = at
    if (at - start >= maxEntryBytes) fail(`a single value is longer than ${maxEntryBytes} bytes`, true)
    return undefined
  }

  /** Behind the quote that ends the string; where it has not arrived, `inString` stays true. */
  private endOfString(from: number, limit: number): number {
    const { bytes } = this
    let at = from
    while (at < limit) {
      const byte = bytes[at++]
      if (byte === backslash) at++
      else if (byte === quote) {
        this.inString = false
        break
      }
    }
    return at
  }

  private open(): void {
    if (++this.depth > maxDepth) this.isTooDeep = true
    this.countValue()
  }

  private countValue(): void {
    if (++this.values > maxValues) fail(`it has more than ${maxValues} values`, true)
  }
}
