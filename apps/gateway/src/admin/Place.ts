/**
 * Shared by all administrative commands: their options, their output, and their errors.
 *
 * A command prints lines for people, or with `--json` one JSON value a line: `print` for one thing, `printAll` for a list.
 */
import * as Console from "effect/Console"
import * as Flag from "effect/cli/Flag"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"

/** A command failed; the message is for the operator. */
export class AdminFailure extends Data.TaggedError("AdminFailure")<{ readonly message: string }> {}

/** The options of the gateway that locate its settings. */
export interface Place {
  readonly config: string | undefined
  readonly dataDir: string | undefined
  readonly databaseUrl: string | undefined
  readonly serverName: string | undefined
}

/** The options of every administrative command. */
export const place = {
  config: Flag.String("config").pipe(Flag.withDescription("The TOML file of the gateway"), Flag.optional),
  dataDir: Flag.String("data-dir").pipe(Flag.withDescription("The data directory of the gateway"), Flag.optional),
  databaseUrl: Flag.String("database-url").pipe(Flag.withDescription("The database of the gateway"), Flag.optional),
  serverName: Flag.String("server-name").pipe(Flag.withDescription("The name of the home server"), Flag.optional),
  json: Flag.Boolean("json").pipe(Flag.withDefault(false), Flag.withDescription("Print JSON, one value a line"))
}

export type PlaceFlags = { readonly [K in keyof Place]: Option.Option<string> }

export const toPlace = (flags: PlaceFlags): Place => ({
  config: Option.getOrUndefined(flags.config),
  dataDir: Option.getOrUndefined(flags.dataDir),
  databaseUrl: Option.getOrUndefined(flags.databaseUrl),
  serverName: Option.getOrUndefined(flags.serverName)
})

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
