/**
 * JSON values as MessagePack, for the binary subprotocol of the socket.
 *
 * Only what JSON has is let in: no binary, no extensions (records, dates, references, regular expressions), text keys
 * only, text in UTF-8, no NaN. Every byte sequence is walked before it is decoded, without recursion and without
 * allocating by the lengths that it claims, so that what reaches the decoder is well-formed and bounded.
 *
 * Integers beyond 32 bits, such as times, are written as floats of 64 bits, as msgpackr does: those are numbers in every
 * language, where integers of 64 bits are a `bigint` to clients in JavaScript that ask for nothing else. Both are read.
 */

import { Result } from "effect"
import { Packr, Unpackr } from "msgpackr"
import type { Json } from "./Json.ts"
import { maxRequestDepth as maxDepth } from "./JsonShape.ts"
import { BadJson, NotJson, TooLarge } from "./MatrixError.ts"

const Scalar = 0
const Text = 1
const List = 2
const Table = 3
const Float32 = 4
const Float64 = 5
const Binary = 6
const Refused = 7

/** The type that a first byte announces, the number of length bytes that follow, and the fixed or added length. */
const kinds = new Uint8Array(256).fill(Refused)
const lengthBytes = new Uint8Array(256)
const lengths = new Uint8Array(256)

const announce = (first: number, kind: number, length: number, ofLength = 0): void => {
  kinds[first] = kind
  lengths[first] = length
  lengthBytes[first] = ofLength
}

const announceRange = (first: number, last: number, kind: number): void => {
  for (let byte = first; byte <= last; byte++) announce(byte, kind, kind === Scalar ? 0 : byte - first)
}

announceRange(0x00, 0x7f, Scalar)
announceRange(0x80, 0x8f, Table)
announceRange(0x90, 0x9f, List)
announceRange(0xa0, 0xbf, Text)
announce(0xc0, Scalar, 0)
announce(0xc2, Scalar, 0)
announce(0xc3, Scalar, 0)
announce(0xca, Float32, 4)
announce(0xcb, Float64, 8)
for (let power = 0; power < 4; power++) {
  announce(0xcc + power, Scalar, 1 << power)
  announce(0xd0 + power, Scalar, 1 << power)
}
for (let power = 0; power < 3; power++) announce(0xd9 + power, Text, 0, 1 << power)
for (let power = 1; power < 3; power++) {
  announce(0xdb + power, List, 0, 1 << power)
  announce(0xdd + power, Table, 0, 1 << power)
}
for (let power = 0; power < 3; power++) {
  announce(0xc4 + power, Binary, 0, 1 << power)
  announce(0xc7 + power, Binary, 1, 1 << power)
}
for (let power = 0; power < 5; power++) announce(0xd4 + power, Binary, 1 + (1 << power))
announceRange(0xe0, 0xff, Scalar)

const malformed = "The frame is not MessagePack"

const protoKey = new TextEncoder().encode("__proto__")

const isSame = (text: Uint8Array, bytes: Uint8Array, start: number, length: number): boolean =>
  length === text.length && text.every((byte, index) => bytes[start + index] === byte)

const utf8 = new TextDecoder("utf-8", { fatal: true })

/** Short texts are mostly ASCII, and not worth a call of the decoder. */
const isUtf8 = (bytes: Uint8Array, start: number, end: number): boolean => {
  let at = start
  const limit = Math.min(end, start + 64)
  while (at < limit && bytes[at]! < 0x80) at++
  if (at === end) return true
  try {
    utf8.decode(bytes.subarray(start, end))
    return true
  } catch {
    return false
  }
}

/**
 * The purpose of a walk: to `check` foreign bytes, or to `find` a key of the outermost map, even if the map holds values
 * that JSON lacks.
 */
type Purpose = "check" | "find"

type Flaw = NotJson | BadJson | TooLarge

/** Walks one value. */
class Walk {
  readonly bytes: Uint8Array
  readonly view: DataView
  readonly purpose: Purpose
  /** The key to find, and where its value begins. */
  readonly key: Uint8Array | undefined
  found: number | undefined
  position = 0
  depth = 0
  /** The number of all values in the arrays and maps so far. */
  private values = 0
  private readonly maxValues: number
  /** How many values each open array or map still wants; a map wants two for each entry. */
  readonly wanted = new Int32Array(maxDepth + 1)
  readonly inMap = new Uint8Array(maxDepth + 1)

  constructor(bytes: Uint8Array, purpose: Purpose, key?: Uint8Array, maxValues = Number.POSITIVE_INFINITY) {
    this.bytes = bytes
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.purpose = purpose
    this.key = key
    this.maxValues = maxValues
  }

  /** Undefined if the bytes are exactly one value that JSON has. */
  run(): Flaw | undefined {
    this.wanted[0] = 1
    while (true) {
      while (this.wanted[this.depth] === 0) {
        if (this.depth === 0) return this.position === this.bytes.length ? undefined : new NotJson({ error: malformed })
        this.depth--
      }
      const flaw = this.value()
      if (flaw !== undefined) return flaw
    }
  }

  value(): Flaw | undefined {
    if (this.position >= this.bytes.length) return new NotJson({ error: malformed })
    const start = this.position
    const first = this.bytes[start]!
    const kind = kinds[first]!
    const isKey = this.inMap[this.depth] === 1 && this.wanted[this.depth]! % 2 === 0
    if (kind === Refused || (this.purpose === "check" && (kind === Binary || (isKey && kind !== Text)))) {
      return new BadJson({
        error: isKey ? "Expected text as the keys of a map" : "Expected values that JSON has: no binary, no extensions"
      })
    }
    const length = this.length(first)
    this.wanted[this.depth]!--
    if (kind === List || kind === Table) return this.open(kind, length)
    this.position += length
    if (this.position > this.bytes.length) return new NotJson({ error: malformed })
    if (kind === Text) return this.text(this.position - length, isKey)
    return kind === Float32 || kind === Float64 ? this.float(kind, start) : undefined
  }

  text(start: number, isKey: boolean): NotJson | BadJson | undefined {
    const length = this.position - start
    if (this.purpose === "check") {
      if (isKey && isSame(protoKey, this.bytes, start, length)) {
        return new BadJson({ error: "__proto__: expected another key" })
      }
      if (!isUtf8(this.bytes, start, this.position))
        return new NotJson({ error: "The frame holds text that is not UTF-8" })
    } else if (this.key !== undefined && isKey && this.depth === 1 && isSame(this.key, this.bytes, start, length)) {
      this.found = this.position
    }
    return undefined
  }

  /** Reads the length that the first byte announces, and moves behind it. Infinity where the bytes end before. */
  length(first: number): number {
    const at = this.position + 1
    const size = lengthBytes[first]!
    this.position = at + size
    if (size === 0) return lengths[first]!
    if (this.position > this.bytes.length) return Number.POSITIVE_INFINITY
    const read = size === 1 ? this.view.getUint8(at) : size === 2 ? this.view.getUint16(at) : this.view.getUint32(at)
    return read + lengths[first]!
  }

  open(kind: number, length: number): Flaw | undefined {
    const values = kind === Table ? length * 2 : length
    if (values > this.bytes.length - this.position) return new NotJson({ error: malformed })
    this.values += values
    if (this.values > this.maxValues) return new TooLarge({ error: `Expected at most ${this.maxValues} values` })
    if (this.depth === maxDepth) return new BadJson({ error: `Expected at most ${maxDepth} levels of nesting` })
    this.depth++
    this.wanted[this.depth] = values
    this.inMap[this.depth] = kind === Table ? 1 : 0
    return undefined
  }

  float(kind: number, start: number): BadJson | undefined {
    const value = kind === Float32 ? this.view.getFloat32(start + 1) : this.view.getFloat64(start + 1)
    if (this.purpose === "check" && !Number.isFinite(value)) return new BadJson({ error: "Expected finite numbers" })
    return undefined
  }
}

const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: "number" })

/**
 * The value that the bytes hold. Errors: M_NOT_JSON for other bytes, M_BAD_JSON for what JSON does not have, M_TOO_LARGE for
 * more than `maxValues` values.
 */
export const decode = (bytes: Uint8Array, maxValues?: number): Result.Result<Json, Flaw> => {
  const flaw = new Walk(bytes, "check", undefined, maxValues).run()
  if (flaw !== undefined) return Result.fail(flaw)
  return Result.try({ try: () => unpackr.unpack(bytes) as Json, catch: () => new NotJson({ error: malformed }) })
}

/**
 * The text or number under a key of the outermost map, also of a map that is refused for what else it holds. Undefined
 * if there is none, and where the bytes are no MessagePack.
 */
export const readScalar = (bytes: Uint8Array, key: string): string | number | undefined => {
  const walk = new Walk(bytes, "find", new TextEncoder().encode(key))
  const flaw = walk.run()
  if (flaw?._tag === "M_NOT_JSON" || walk.found === undefined) return undefined
  const first = new Walk(bytes.subarray(walk.found), "check")
  if (first.value() !== undefined || first.depth > 0) return undefined
  const value: unknown = unpackr.unpack(first.bytes.subarray(0, first.position))
  return typeof value === "string" || typeof value === "number" ? value : undefined
}

/** As JSON.stringify does: keys without a value are left out, list items without one are null. */
const packing = { useRecords: false, variableMapSize: true, skipValues: [undefined], encodeUndefinedAsNil: true }

const packr = new Packr(packing)

/** The bytes of a value. */
export const encode = (value: unknown): Uint8Array => packr.pack(value)

/** The bytes that announce a list of so many values. */
const listHead = (length: number): Uint8Array => {
  if (length < 16) return Uint8Array.of(0x90 | length)
  if (length < 0x10000) return Uint8Array.of(0xdc, length >> 8, length & 0xff)
  return Uint8Array.of(0xdd, length >>> 24, (length >> 16) & 0xff, (length >> 8) & 0xff, length & 0xff)
}

/** The bytes of a list. Each item is given by its bytes, in parts. */
export const joinList = (items: ReadonlyArray<ReadonlyArray<Uint8Array>>): Uint8Array =>
  join([listHead(items.length), ...items.flat()])

/** The bytes of a map with keys of text. Each value is given by its bytes. At most 15 keys. */
export const joinMap = (values: { readonly [key: string]: Uint8Array }): Uint8Array => {
  const entries = Object.entries(values)
  return join([Uint8Array.of(0x80 | entries.length), ...entries.flatMap(([key, value]) => [encode(key), value])])
}

const join = (parts: ReadonlyArray<Uint8Array>): Uint8Array => {
  const joined = new Uint8Array(parts.reduce((size, part) => size + part.length, 0))
  let at = 0
  for (const part of parts) {
    joined.set(part, at)
    at += part.length
  }
  return joined
}
