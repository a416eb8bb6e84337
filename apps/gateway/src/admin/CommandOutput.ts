/**
 * The output and errors of administrative commands: lines of text, or with `--json` one JSON value a line. `print` is for a single
 * value, `printAll` for a list.
 */
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"

/** A command failed; the message is for the operator. */
export class AdminFailure extends Data.TaggedError("AdminFailure")<{ readonly message: string }> {}

/** Fails unless the number of an option is at least 1. */
export const requirePositive = (option: string, value: number | undefined): Effect.Effect<void, AdminFailure> =>
  value !== undefined && value < 1
    ? Effect.fail(new AdminFailure({ message: `${option} must be at least 1` }))
    : Effect.void

/** The shortest reason, as the endpoints have it. */
const shortestReason = 3

/** Fails unless the text of `--reason` says something. */
export const requireReason = (text: string): Effect.Effect<void, AdminFailure> =>
  text.trim().length < shortestReason
    ? Effect.fail(new AdminFailure({ message: `--reason must have at least ${shortestReason} characters` }))
    : Effect.void

/** The form of the output. */
export interface Output {
  readonly json: boolean
}

/** The last time that has a date, in milliseconds. */
const lastTime = 8_640_000_000_000_000

/** A time in milliseconds as text. */
export const time = (milliseconds: number): string =>
  new Date(Math.max(-lastTime, Math.min(lastTime, milliseconds))).toISOString().replace(/\.\d+Z$/, "Z")

/** `userId` becomes `user_id`. Keys that are no names of fields, such as room IDs, stay. */
const snakeCase = (key: string): string =>
  /^[a-z][A-Za-z0-9]*$/.test(key) ? key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`) : key

/** With keys as in the APIs. Big integers become numbers, bytes become base64. The details of audit rows, which are hashed, stay as they are. */
const toFields = (value: unknown): unknown => {
  if (typeof value === "bigint") return Number(value)
  if (typeof value !== "object" || value === null) return value
  if (Array.isArray(value)) return value.map(toFields)
  if (value instanceof Uint8Array) return Buffer.from(value).toString("base64")
  return Object.fromEntries(
    Object.entries(value).map(([key, inner]) => [snakeCase(key), key === "details" ? inner : toFields(inner)])
  )
}

const toJson = (value: unknown): string => JSON.stringify(toFields(value))

/** Characters that control the terminal or change the reading order. */
const deceptive = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu

/** Escapes such characters in text of users, such as the name of a room (`\u202e`). Line breaks stay. */
const harmless = (text: string): string =>
  text.replace(deceptive, (character) =>
    character === "\n" ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`
  )

/** Prints a single value: `text`, or `value` as JSON. */
export const print = ({ json }: Output, value: unknown, text: string): Effect.Effect<void> =>
  Console.log(harmless(json ? toJson(value) : text))

/** Prints a list, a line each. */
export const printAll = <A>(
  output: Output,
  values: ReadonlyArray<A>,
  toText: (value: A) => string,
  toValue: (value: A) => unknown = (value) => value
): Effect.Effect<void> =>
  Effect.forEach(values, (value) => print(output, toValue(value), toText(value)), { discard: true })

/** How many values one query of a list reads. */
const pageSize = 100

/** Prints all values of a list, page by page. */
export const printPages = <A, E, R>(
  output: Output,
  read: (page: { readonly from: number; readonly limit: number }) => Effect.Effect<ReadonlyArray<A>, E, R>,
  toText: (value: A) => string,
  toValue?: (value: A) => unknown
): Effect.Effect<void, E, R> =>
  Effect.gen(function* () {
    for (let from = 0; ; from += pageSize) {
      const values = yield* read({ from, limit: pageSize })
      yield* printAll(output, values, toText, toValue)
      if (values.length < pageSize) return
    }
  })

/** Prints the result: a sentence, or `{"done": sentence}` with further fields. */
export const printLine = (output: Output, sentence: string, more: object = {}): Effect.Effect<void> =>
  print(output, { done: sentence, ...more }, sentence)
