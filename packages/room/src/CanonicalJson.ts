/**
 * Canonical JSON: the one byte sequence of a JSON value that every server hashes and signs. Keys sorted by code point,
 * no insignificant space, UTF-8, integers between -(2^53)+1 and 2^53-1.
 *
 * Use `encode` for what others wrote; it says what has no canonical form. Source: "Security" of the specification.
 */

import type { Json } from "@greenroom/protocol/Json"
import { Result, Schema } from "effect"

/** The value has no canonical form. `reason` names what is wrong. */
export class CanonicalJsonError extends Schema.TaggedError<CanonicalJsonError>()("CanonicalJsonError", {
  reason: Schema.String
}) {}

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

const encodeNumber = (value: number): string =>
  Number.isSafeInteger(value) ? (value === 0 ? "0" : String(value)) : fail(`${value} is not an integer of 53 bits`)

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

const encodeArray = (array: ReadonlyArray<unknown>, depth: number): string => {
  let out = "["
  for (let i = 0; i < array.length; i++) out += (i > 0 ? "," : "") + encodeValue(array[i], depth)
  return `${out}]`
}

const encodeObject = (object: Readonly<Record<string, unknown>>, depth: number): string => {
  let out = ""
  for (const key of sortedKeys(object)) {
    const value = object[key]
    if (value === undefined) continue
    out += `${(out === "" ? "" : ",") + encodeString(key)}:${encodeValue(value, depth)}`
  }
  return `{${out}}`
}

const encodeValue = (value: unknown, depth: number): string => {
  switch (typeof value) {
    case "string":
      return encodeString(value)
    case "number":
      return encodeNumber(value)
    case "boolean":
      return value ? "true" : "false"
    case "object":
      if (value === null) return "null"
      if (depth >= maxNesting) return fail(`nested deeper than ${maxNesting} levels`)
      return Array.isArray(value)
        ? encodeArray(value, depth + 1)
        : encodeObject(value as Readonly<Record<string, unknown>>, depth + 1)
    default:
      return fail(`a ${typeof value} is not JSON`)
  }
}

const boundOfValue = (value: unknown, depth: number): number => {
  switch (typeof value) {
    case "string":
      return value.isWellFormed() ? mostBytesOfUnit * value.length + 2 : fail("a string holds a lone surrogate")
    case "number":
      return encodeNumber(value).length
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
  let bound = 2
  for (const [key, value] of Object.entries(object)) {
    if (value !== undefined) bound += 2 + boundOfValue(key, depth) + boundOfValue(value, depth)
  }
  return bound
}

/**
 * How many bytes the canonical form has at most, told without making it. Throws `CanonicalJsonError` where there is none.
 */
export const boundOrThrow = (value: Json): number => boundOfValue(value, 0)

/** The canonical form. Throws `CanonicalJsonError`: for values that are known to have one. */
export const encodeOrThrow = (value: Json): string => encodeValue(value, 0)

/**
 * The canonical form as text, or why there is none: a number that is not an integer of 53 bits, a lone surrogate, or
 * too deep a nesting. Keys whose value is `undefined` are left out.
 */
export const encode = (value: Json): Result.Result<string, CanonicalJsonError> => {
  try {
    return Result.succeed(encodeOrThrow(value))
  } catch (error) {
    if (error instanceof CanonicalJsonError) return Result.fail(error)
    throw error
  }
}

/** The canonical form as UTF-8. */
export const encodeBytes = (value: Json): Result.Result<Uint8Array, CanonicalJsonError> =>
  Result.map(encode(value), (text) => Buffer.from(text, "utf8"))
