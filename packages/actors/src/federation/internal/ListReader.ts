/**
 * Reads a JSON object while its bytes arrive: the entries of its long lists are given out as soon as they are whole, so that
 * they are worked on while the rest is under way, and the body is never in memory at once.
 */
import { isUtf8 } from "node:buffer"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import { JsonSyntaxError, maxDepth, maxEntries, maxEntryBytes, maxValues } from "../SlicedJson.ts"
import { backslash, closeBrace, closeBracket, colon, comma, openBrace, openBracket, quote } from "./jsonBytes.ts"

/** Bytes are gathered up to this many before they are read. */
const defaultReadAtOnce = 64 * 1024

const isSpace = (byte: number): boolean => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09

const fail = (reason: string, isTooLong = false): never => {
  throw new JsonSyntaxError({ reason, isTooLong })
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

/** An entry of one of the lists. */
export interface ListEntry {
  readonly list: string
  readonly value: Json
}

/** Methods throw `JsonSyntaxError`. */
export class ListReader {
  private readonly lists: ReadonlySet<string>
  private readonly parse: (text: string) => Json
  private readonly readAtOnce: number
  private readonly object: Record<string, Json> = {}
  private found: Array<ListEntry> = []
  private expected: Expected = "object"
  private key = ""
  private arrived: Array<Buffer> = []
  private arrivedBytes = 0
  /** The bytes that are read now, and where the next of them is. */
  private bytes = Buffer.alloc(0)
  private position = 0
  /** How far the value under way was looked at, and how it stands there. */
  private looked = 0
  private depth = 0
  private inString = false
  private entries = 0
  private values = 0

  /** `lists`: the keys whose lists are read entry by entry; in the object they are empty. */
  constructor(lists: ReadonlySet<string>, parse: (text: string) => Json, readAtOnce = defaultReadAtOnce) {
    this.lists = lists
    this.parse = parse
    this.readAtOnce = readAtOnce
  }

  /** Adds bytes as they arrive. */
  push(chunk: Buffer): void {
    this.arrived.push(chunk)
    this.arrivedBytes += chunk.length
    if (this.arrivedBytes >= this.readAtOnce) this.read()
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
    this.read()
    if (this.expected !== "nothing") fail("it ends too early")
    return this.object
  }

  private read(): void {
    this.looked -= this.position
    this.bytes = Buffer.concat([this.bytes.subarray(this.position), ...this.arrived])
    this.position = 0
    this.arrived = []
    this.arrivedBytes = 0
    while (this.step());
  }

  /** Reads what is expected next. False where it has not arrived whole. */
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
        return byte === openBracket && this.lists.has(this.key) ? this.beginList() : this.readValue()
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
    this.set(this.key, [])
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
    const value = this.whole()
    if (value === undefined) return false
    this.countEntry()
    this.found.push({ list: this.key, value })
    this.expected = "comma or end of list"
    return true
  }

  private set(key: string, value: Json): void {
    Object.defineProperty(this.object, key, { value, enumerable: true, configurable: true, writable: true })
  }

  private countEntry(): void {
    if (++this.entries > maxEntries) fail(`it has more than ${maxEntries} entries`, true)
  }

  /** The value that begins here; undefined where it has not arrived whole. */
  private whole(): Json | undefined {
    const start = this.position
    const end = this.endOfValue(start)
    if (end === undefined) return undefined
    const text = this.bytes.subarray(start, end)
    if (!isUtf8(text)) fail("it is not UTF-8")
    this.position = end
    this.looked = end
    this.depth = 0
    this.inString = false
    try {
      return this.parse(text.toString("utf8"))
    } catch {
      return fail("it cannot be parsed")
    }
  }

  /** Where the value ends. Malformed values end somewhere, and fail when they are parsed. */
  private endOfValue(start: number): number | undefined {
    const { bytes } = this
    let at = Math.max(start, this.looked)
    for (; at < bytes.length; at++) {
      const byte = bytes[at]
      if (this.inString) {
        if (byte === backslash) at++
        else if (byte === quote) {
          this.inString = false
          if (this.depth === 0) return at + 1
        }
      } else if (byte === quote) this.inString = true
      else if (byte === openBrace || byte === openBracket) this.open()
      else if (byte === closeBrace || byte === closeBracket) {
        if (this.depth === 0) return at
        if (--this.depth === 0) return at + 1
      } else if (byte === comma) {
        if (this.depth === 0) return at
        this.countValue()
      }
    }
    this.looked = at
    if (at - start > maxEntryBytes) fail(`a single value is longer than ${maxEntryBytes} bytes`, true)
    return undefined
  }

  private open(): void {
    if (++this.depth > maxDepth) fail(`it nests deeper than ${maxDepth} levels`, true)
    this.countValue()
  }

  private countValue(): void {
    if (++this.values > maxValues) fail(`it has more than ${maxValues} values`, true)
  }
}
