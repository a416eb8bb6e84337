/**
 * JSON whose numbers keep their text if JavaScript's numbers cannot represent it: integers beyond 53 bits, and fractions
 * such as `1.0`. Events of room versions 1 to 5 may have them, and hashes and signatures are over their text.
 *
 * `parse` gives such a number as what `JSON.rawJSON` makes. `JSON.stringify` writes it back, and so does `CanonicalJson`;
 * nothing else can read it. Its text is the one that Python gives the number, since servers agree on that alone: `1e2` is
 * `100.0`. Use it for PDUs on their way between the wire and `RoomVersion.fromPdu`, and `withoutExactNumbers` for all else.
 */
import type { Json, JsonObject } from "./Json.ts"
import { type ReadScalar, readJson } from "./JsonParse.ts"

/** A number whose text is kept. Its type among the values of JSON is that of an object, which it is for `typeof`. */
interface ExactNumber {
  readonly rawJSON: string
}

/** APIs of Node 24 that TypeScript does not declare yet. */
const { isRawJSON, rawJSON } = JSON as unknown as {
  readonly isRawJSON: (value: unknown) => value is ExactNumber
  readonly rawJSON: (text: string) => ExactNumber
}

/** The text of a number that was kept, undefined for any other value. */
export const exactText = (value: unknown): string | undefined =>
  typeof value === "object" && isRawJSON(value) ? value.rawJSON : undefined

/** Finds every number that may need its text, and some texts that look alike. */
const suspicious = /[:,[]\s*-?(?:\d+[.eE]|\d{16})/

/** The text that Python gives a fraction without a fractional part. */
const wholeFractionText = (value: number): string => {
  if (Math.abs(value) >= 1e16) return value.toExponential()
  return `${Object.is(value, -0) ? "-0" : value}.0`
}

const readNumber: ReadScalar = (text, read) => {
  const value = read(text)
  if (typeof value !== "number") return value
  if (/[.eE]/.test(text)) {
    if (!Number.isFinite(value)) return rawJSON(text)
    return Number.isInteger(value) ? rawJSON(wholeFractionText(value)) : value
  }
  return Number.isSafeInteger(value) ? value : rawJSON(text)
}

/** As `JSON.parse`, but for the numbers. */
export const parse = (text: string): Json => {
  const value = JSON.parse(text) as Json
  return suspicious.test(text) ? (readJson(text, readNumber) as Json) : value
}

/** How deep numbers are looked for. Canonical JSON does not nest deeper. */
const maxNesting = 256

const rounded = (value: Json, depth: number): Json => {
  if (typeof value !== "object" || value === null || depth > maxNesting) return value
  if (Array.isArray(value)) {
    const members = value.map((member) => rounded(member, depth + 1))
    return members.every((member, index) => member === value[index]) ? value : members
  }
  const text = exactText(value)
  return text === undefined ? roundedObject(value as JsonObject, depth) : Number(text)
}

const roundedObject = (object: JsonObject, depth: number): JsonObject => {
  const entries = Object.entries(object)
  const members = entries.map(([key, value]) => [key, rounded(value, depth + 1)] as const)
  return members.every(([, member], index) => member === entries[index]![1]) ? object : Object.fromEntries(members)
}

/** The value with the nearest numbers that JavaScript has: the same object where it has no others. */
export const withoutExactNumbers = <A extends Json>(value: A): A => rounded(value, 0) as A
