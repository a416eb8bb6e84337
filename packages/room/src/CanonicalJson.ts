/**
 * Canonical JSON: the one byte sequence of a JSON value that every server hashes and signs. Keys sorted by code point,
 * no insignificant space, UTF-8, integers between -(2^53)+1 and 2^53-1.
 *
 * Use `encode` for what others wrote; it says what has no canonical form.
 *
 * Source: "Security" of the draft, "Canonical JSON" of the appendices of the draft.
 */
import { exactText } from "@greenroom/protocol/ExactJson"
import type { Json, JsonObject } from "@greenroom/protocol/Json"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"

/** The value has no canonical form. `reason` names the fault. */
export class CanonicalJsonError extends Schema.TaggedError<CanonicalJsonError>()("CanonicalJsonError", {
  reason: Schema.String
}) {
  override get message(): string {
    return this.reason
  }
}

/** How deep arrays and objects may nest. Deeper values are refused, so that no input exhausts the stack. */
export const maxNesting = 256

const fail = (reason: string): never => {
  throw new CanonicalJsonError({ reason })
}

/** The most bytes that one UTF-16 unit of a string takes: those of \u001f. */
const mostBytesOfUnit = 6

/** Text without anything to escape, and without surrogates. */
const plain = /^[ !#-[\]-~]*$/

const encodeString = (text: string): string => {
  if (text.length < 64 && plain.test(text)) return `"${text}"`
  return text.isWellFormed() ? JSON.stringify(text) : fail("a string holds a lone surrogate")
}

/**
 * Which numbers have a canonical form: integers of 53 bits, or any number. The specification gives other numbers no form, but
 * rooms before version 6 have them; theirs is that of Python, by which their hashes were made. Those that JavaScript's
 * numbers cannot tell apart (`1.0`, integers beyond 53 bits) are exact where `ExactJson` has read them.
 */
export type CanonicalNumbers = "integers" | "any"

/** A fraction as Python writes it: with an exponent of two digits below 0.0001. */
const encodeFraction = (value: number): string => {
  const [digits = "", exponent = ""] = value.toExponential().split("e-")
  return Number(exponent) > 4 ? `${digits}e-${exponent.padStart(2, "0")}` : String(value)
}

const encodeNumber = (value: number, numbers: CanonicalNumbers): string => {
  if (Number.isSafeInteger(value)) return value === 0 ? "0" : String(value)
  if (numbers === "integers" || !Number.isFinite(value)) return fail(`${value} is not an integer of 53 bits`)
  return Number.isInteger(value) ? BigInt(value).toString() : encodeFraction(value)
}

/** The most digits of an integer. Python reads no longer one, so that no two servers would agree on it. */
const maxDigits = 4300

/** A number that `ExactJson` has kept, whose text is that of Python. */
const encodeExact = (text: string, numbers: CanonicalNumbers): string => {
  if (numbers === "integers") return fail(`${text.slice(0, 40)} is not an integer of 53 bits`)
  const digits = /^-?(\d+)$/.exec(text)?.[1]
  if (digits !== undefined && digits.length > maxDigits) return fail(`an integer has more than ${maxDigits} digits`)
  if (digits !== undefined) return text
  return Number.isFinite(Number(text)) ? text : fail(`${text.slice(0, 40)} is beyond the greatest number`)
}

/**
 * Orders strings by code point. JavaScript's own order goes by UTF-16 code units, which puts U+10000 and above before
 * U+E000.
 */
export const compareCodePoints = (a: string, b: string): number => {
  const length = Math.min(a.length, b.length)
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i)
    const y = b.charCodeAt(i)
    if (x === y) continue
    const xSurrogate = x >= 0xd800 && x <= 0xdfff
    const ySurrogate = y >= 0xd800 && y <= 0xdfff
    return xSurrogate === ySurrogate ? x - y : xSurrogate ? 1 : -1
  }
  return a.length - b.length
}

const aboveUtf16Order = /[\ud800-\uffff]/

const sortedKeys = (object: object): Array<string> => {
  const keys = Object.keys(object)
  let sorted = true
  let special = false
  for (let i = 0; i < keys.length; i++) {
    if (i > 0 && keys[i]! < keys[i - 1]!) sorted = false
    if (aboveUtf16Order.test(keys[i]!)) special = true
  }
  if (special) return keys.sort(compareCodePoints)
  return sorted ? keys : keys.sort()
}

const encodeArray = (array: ReadonlyArray<unknown>, depth: number, numbers: CanonicalNumbers): string => {
  let out = "["
  for (let i = 0; i < array.length; i++) out += (i > 0 ? "," : "") + encodeValue(array[i], depth, numbers)
  return `${out}]`
}

const encodeObject = (object: Readonly<Record<string, unknown>>, depth: number, numbers: CanonicalNumbers): string => {
  let out = ""
  for (const key of sortedKeys(object)) {
    const value = object[key]
    if (value === undefined) continue
    out += `${(out === "" ? "" : ",") + encodeString(key)}:${encodeValue(value, depth, numbers)}`
  }
  return `{${out}}`
}

const encodeIfExact = (value: object, numbers: CanonicalNumbers): string | undefined => {
  const text = exactText(value)
  return text === undefined ? undefined : encodeExact(text, numbers)
}

const encodeValue = (value: unknown, depth: number, numbers: CanonicalNumbers): string => {
  switch (typeof value) {
    case "string":
      return encodeString(value)
    case "number":
      return encodeNumber(value, numbers)
    case "boolean":
      return value ? "true" : "false"
    case "object":
      if (value === null) return "null"
      if (depth >= maxNesting) return fail(`nested deeper than ${maxNesting} levels`)
      return Array.isArray(value)
        ? encodeArray(value, depth + 1, numbers)
        : (encodeIfExact(value, numbers) ?? encodeObject(value as JsonObject, depth + 1, numbers))
    default:
      return fail(`a ${typeof value} is not JSON`)
  }
}

const boundOfValue = (value: unknown, depth: number): number => {
  switch (typeof value) {
    case "string":
      return value.isWellFormed() ? mostBytesOfUnit * value.length + 2 : fail("a string holds a lone surrogate")
    case "number":
      return encodeNumber(value, "integers").length
    case "boolean":
      return 5
    case "object":
      if (value === null) return 4
      if (depth >= maxNesting) return fail(`nested deeper than ${maxNesting} levels`)
      return Array.isArray(value) ? boundOfArray(value, depth + 1) : boundOfObject(value, depth + 1)
    default:
      return fail(`a ${typeof value} is not JSON`)
  }
}

const boundOfArray = (array: ReadonlyArray<unknown>, depth: number): number => {
  let bound = 2
  for (const value of array) bound += 1 + boundOfValue(value, depth)
  return bound
}

const boundOfObject = (object: object, depth: number): number => {
  const exact = encodeIfExact(object, "integers")
  if (exact !== undefined) return exact.length
  let bound = 2
  for (const [key, value] of Object.entries(object)) {
    if (value !== undefined) bound += 2 + boundOfValue(key, depth) + boundOfValue(value, depth)
  }
  return bound
}

/**
 * How many bytes the canonical form has at most, computed without making it. Throws `CanonicalJsonError` if there is none.
 */
export const boundOrThrow = (value: Json): number => boundOfValue(value, 0)

/** The canonical form. Throws `CanonicalJsonError`: for values that are known to have one. */
export const encodeOrThrow = (value: Json, numbers: CanonicalNumbers = "integers"): string =>
  encodeValue(value, 0, numbers)

/**
 * The canonical form as text, or why there is none: a number that is not an integer of 53 bits, a lone surrogate, or
 * too deep a nesting. Keys whose value is `undefined` are left out.
 */
export const encode = (
  value: Json,
  numbers: CanonicalNumbers = "integers"
): Result.Result<string, CanonicalJsonError> => {
  try {
    return Result.succeed(encodeOrThrow(value, numbers))
  } catch (error) {
    if (error instanceof CanonicalJsonError) return Result.fail(error)
    throw error
  }
}

/** The members of an object in canonical form and order, by key: `"key":value`. Throws `CanonicalJsonError`. */
export const encodeMembersOrThrow = (
  object: JsonObject,
  numbers: CanonicalNumbers = "integers"
): ReadonlyMap<string, string> => {
  const members = new Map<string, string>()
  for (const key of sortedKeys(object)) {
    const value = object[key]
    if (value !== undefined) members.set(key, `${encodeString(key)}:${encodeValue(value, 1, numbers)}`)
  }
  return members
}

/** The canonical form as UTF-8. */
export const encodeBytes = (value: Json): Result.Result<Uint8Array, CanonicalJsonError> =>
  Result.map(encode(value), (text) => Buffer.from(text, "utf8"))
