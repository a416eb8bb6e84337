/**
 * Settings of a program: each once, with its meaning, its form and its default. A program lists its settings
 * as one object of `Setting`s, from which its command line, its environment variables, its TOML file (`SettingSources`)
 * and its documentation come.
 */
import { isIPv4 } from "node:net"
import { ServerName } from "@greenroom/protocol/Identifiers"
import * as Redacted from "effect/Redacted"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"

/** One setting; `A` is its value. */
export interface Setting<A> {
  /** Its path in the TOML file, such as `turn.ttl`. */
  readonly name: string
  readonly description: string
  /** Completes the sentence "must be ...". */
  readonly expects: string
  /** Decodes the text of an option or a variable. Numbers, booleans and lists of TOML are converted to text before. */
  readonly schema: Schema.Codec<A, string>
  readonly fallback: A
  /** For options: the placeholder of the value in `--help`, or `switch` for one that has no value. */
  readonly flag?: string
  /** Never repeated in messages. */
  readonly secret?: boolean
  /**
   * Describes the fault of a text that `schema` refuses, for settings of several parts: names the part, repeats no secret.
   * Undefined if `expects` suffices.
   */
  readonly problem?: (text: string) => string | undefined
}

/** The settings of a program, by their names in it. */
export interface Settings {
  readonly [key: string]: Setting<never> | Setting<unknown>
}

/** The values of all settings. */
export type Configuration<S> = {
  readonly [K in keyof S]: S[K] extends Setting<infer A> ? A : never
}

/** A setting with a default. */
export const setting = <A>(options: Setting<A>): Setting<A> => options

/** A setting that may be absent. */
export const optional = <A>(options: Omit<Setting<A>, "fallback">): Setting<A | undefined> => ({
  ...options,
  schema: options.schema as Schema.Codec<A | undefined, string>,
  fallback: undefined
})

/** Any text but the empty one. */
export const Text: Schema.Codec<string> = Schema.NonEmptyString

/** A text that no message repeats. */
export const Secret: Schema.Codec<Redacted.Redacted, string> = Schema.NonEmptyString.pipe(
  Schema.decodeTo(
    Schema.Redacted(Schema.NonEmptyString),
    SchemaTransformation.transform<Redacted.Redacted, string>({
      decode: (text) => Redacted.make(text),
      encode: Redacted.value
    })
  )
)

const isDatabaseUrl = (url: Redacted.Redacted): boolean => {
  const text = Redacted.value(url)
  return /^postgres(ql)?:\/\//.test(text) && (URL.canParse(text) || text.startsWith("postgresql:///"))
}

const isNumber = (label: string): boolean => /^(?:[0-9]+|0[xX][0-9A-Fa-f]*)$/.test(label)

/** Hosts that end in a number are IPv4 addresses to every resolver: `0` and `10.1` would be 0.0.0.0 and 10.0.0.1. */
const isReachableName = (name: ServerName): boolean => {
  const host = name.replace(/:[0-9]+$/, "")
  return !isNumber(host.slice(host.lastIndexOf(".") + 1)) || isIPv4(host)
}

/** The name of a server that others can look up. */
export const OwnServerName = ServerName.check(Schema.makeFilter(isReachableName)) as Schema.Codec<ServerName, string>

/** The URL of a PostgreSQL database, which may hold a password. */
export const DatabaseUrl: Schema.Codec<Redacted.Redacted, string> = Secret.check(Schema.makeFilter(isDatabaseUrl))

/** The `expects` and `schema` of a setting that is a whole number. `what` names it, such as `a port number`. */
export const wholeNumber = (
  what: string,
  minimum: number,
  maximum: number
): Pick<Setting<number>, "expects" | "schema"> => ({
  expects: `${what} from ${minimum} to ${maximum}`,
  schema: Schema.String.check(Schema.isPattern(/^[0-9]{1,16}$/)).pipe(
    Schema.decodeTo(
      Schema.Number.check(Schema.isBetween({ minimum, maximum })),
      SchemaTransformation.transform<number, string>({ decode: Number, encode: String })
    )
  )
})

/** `true` or `false`. */
export const Truth: Schema.Codec<boolean, string> = Schema.Literals(["true", "false"]).pipe(
  Schema.decodeTo(
    Schema.Boolean,
    SchemaTransformation.transform<boolean, "true" | "false">({
      decode: (text) => text === "true",
      encode: (value) => (value ? "true" : "false")
    })
  )
) as Schema.Codec<boolean, string>

/** Texts of a form, with commas between them. */
export const list = (pattern: RegExp): Schema.Codec<ReadonlyArray<string>, string> =>
  Schema.String.pipe(
    Schema.decodeTo(
      Schema.Array(Schema.String.check(Schema.isPattern(pattern))),
      SchemaTransformation.transform<ReadonlyArray<string>, string>({
        decode: (text) => (text.trim() === "" ? [] : text.split(",").map((item) => item.trim())),
        encode: (items) => items.join(",")
      })
    )
  )

/** A port to listen on; 0 takes any free one. */
export const listenPort = wholeNumber("a port number", 0, 65_535)
/** A port that others connect to. */
export const fixedPort = wholeNumber("a port number", 1, 65_535)
export const truthExpects = "true or false"

/** Addresses and networks. */
export const networks = list(/^[0-9A-Fa-f:.]{2,45}(\/[0-9]{1,3})?$/)
export const networksExpects = "a list of addresses or networks, such as 127.0.0.1 or 10.0.0.0/8"

/** The levels of the log, from the most talkative one. */
export const logLevels = ["trace", "debug", "info", "warn", "error", "none"] as const
export type LogLevelName = (typeof logLevels)[number]
export const LogLevelFromName = Schema.Literals(logLevels) as Schema.Codec<LogLevelName, string>
