/**
 * The output and errors of administrative commands: lines for people, or with `--json` one JSON value a line. `print` is for
 * one thing, `printAll` for a list.
 */
import * as Console from "effect/Console"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"

/** A command failed; the message is for the operator. */
export class AdminFailure extends Data.TaggedError("AdminFailure")<{ readonly message: string }> {}

/** The form of the output. */
export interface Output {
  readonly json: boolean
}

/** A time in milliseconds as people read it. */
export const time = (milliseconds: number): string => new Date(milliseconds).toISOString().replace(/\.\d+Z$/, "Z")

/** JSON of what services return: big integers as numbers, bytes as base64. */
const toJson = (value: unknown): string =>
  JSON.stringify(value, (_key, entry) =>
    typeof entry === "bigint"
      ? Number(entry)
      : entry instanceof Uint8Array
        ? Buffer.from(entry).toString("base64")
        : entry
  )

/** Prints one thing: `text` for people, `value` as JSON. */
export const print = ({ json }: Output, value: unknown, text: string): Effect.Effect<void> =>
  Console.log(json ? toJson(value) : text)

/** Prints a list, a line each. */
export const printAll = <A>(
  output: Output,
  values: ReadonlyArray<A>,
  toText: (value: A) => string,
  toValue: (value: A) => unknown = (value) => value
): Effect.Effect<void> =>
  Effect.forEach(values, (value) => print(output, toValue(value), toText(value)), { discard: true })

/** Prints the result: a sentence, or `{"done": sentence}` with further fields. */
export const printLine = (output: Output, sentence: string, more: object = {}): Effect.Effect<void> =>
  print(output, { done: sentence, ...more }, sentence)
