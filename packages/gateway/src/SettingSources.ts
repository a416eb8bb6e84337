/**
 * Reads the settings of a program: from the command line, the environment and a TOML file, in this order of precedence, then
 * from the defaults. A fault is one sentence that names the option, variable or key as the operator wrote it.
 */
import { access, constants } from "node:fs/promises"
import { makeDataDirectory } from "@greenroom/store/DataDirectory"
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as Toml from "effect/encoding/Toml"
import * as FileSystem from "effect/FileSystem"
import * as Option from "effect/Option"
import type * as PlatformError from "effect/PlatformError"
import * as Result from "effect/Result"
import * as Schema from "effect/Schema"
import type { Configuration, Setting, Settings } from "./Setting.ts"

/** The fault of the configuration, in one line. */
export class ConfigurationError extends Data.TaggedError("ConfigurationError")<{ readonly message: string }> {}

/** Fails with a `ConfigurationError`. */
export const refuse = (message: string) => Effect.fail(new ConfigurationError({ message }))

/** The operator's value of a setting, and its source. */
interface Written {
  readonly text: string
  /** `--port`, `GREENROOM_PORT` or `port in greenroom.toml`. */
  readonly where: string
}

/** The places where an operator writes settings. */
export interface Sources {
  /** Options of the command line by setting, `true` and `false` for switches. */
  readonly options: { readonly [key: string]: string | undefined }
  /** The file that `--config` names. */
  readonly configFile?: string | undefined
  readonly environment: { readonly [name: string]: string | undefined }
}

/** The settings of a program, and the names of their variables. */
export interface Program<S extends Settings> {
  readonly settings: S
  /** The prefix of the environment variables, such as `GREENROOM_`. */
  readonly variablePrefix: string
  /** Variables with this prefix that belong to another program of Greenroom: they are left alone. */
  readonly otherVariables?: ReadonlyArray<string>
}

/** `tls_cert` becomes `tls-cert`, the name of the option. */
export const optionName = (setting: { readonly name: string }): string => setting.name.replace(/[._]/g, "-")

/** `turn.shared_secret` becomes `GREENROOM_TURN_SHARED_SECRET`. */
const variableName = (prefix: string, setting: { readonly name: string }): string =>
  `${prefix}${setting.name.replaceAll(".", "_").toUpperCase()}`

/** The environment variables of a program. */
export const variablesOf = ({ settings, variablePrefix }: Program<Settings>): ReadonlyArray<string> => [
  configVariable(variablePrefix),
  ...Object.values(settings).map((setting) => variableName(variablePrefix, setting))
]

/** The variable that names the TOML file. */
const configVariable = (prefix: string): string => `${prefix}CONFIG`

/** The configuration, each setting checked by itself. Errors: `ConfigurationError`. */
export const readSettings: <S extends Settings>(
  program: Program<S>,
  sources: Sources
) => Effect.Effect<Configuration<S>, ConfigurationError, FileSystem.FileSystem> = Effect.fnUntraced(
  function* (program, sources) {
    yield* checkVariables(program, sources)
    const file = sources.configFile ?? (sources.environment[configVariable(program.variablePrefix)] || undefined)
    const inFile = file === undefined ? new Map<string, Written>() : yield* readTomlFile(program.settings, file)
    const out: Record<string, unknown> = {}
    for (const [key, setting] of Object.entries(program.settings)) {
      const written = fromOption(setting, sources.options[key]) ?? fromVariable(program, setting, sources)
      out[key] = yield* decode(setting as Setting<unknown>, written ?? inFile.get(setting.name))
    }
    return out as never
  }
)

/** Refuses variables that are no settings: most are misspelt, and the setting would silently have no effect. */
const checkVariables = (program: Program<Settings>, { environment }: Sources) => {
  const known = new Set([...variablesOf(program), ...(program.otherVariables ?? [])])
  const unknown = Object.keys(environment).filter((name) => name.startsWith(program.variablePrefix) && !known.has(name))
  if (unknown.length === 0) return Effect.void
  return refuse(
    `${unknown.sort().join(", ")}: there ${unknown.length === 1 ? "is no such setting" : "are no such settings"}`
  )
}

const fromOption = (setting: { readonly name: string; readonly flag?: string }, option: string | undefined) => {
  if (option === undefined) return undefined
  const no = setting.flag === "switch" && option === "false" ? "no-" : ""
  return { text: option, where: `--${no}${optionName(setting)}` }
}

const fromVariable = (program: Program<Settings>, setting: { readonly name: string }, { environment }: Sources) => {
  const name = variableName(program.variablePrefix, setting)
  const text = environment[name]
  return text === undefined || text === "" ? undefined : { text, where: name }
}

const decode = (
  setting: Setting<unknown>,
  written: Written | undefined
): Effect.Effect<unknown, ConfigurationError> => {
  if (written === undefined) return Effect.succeed(setting.fallback)
  const value = Schema.decodeUnknownOption(setting.schema)(written.text)
  if (Option.isSome(value)) return Effect.succeed(value.value)
  const problem = setting.problem?.(written.text)
  if (problem !== undefined) return refuse(`${written.where}: ${problem}`)
  const got = setting.secret ? "" : `, not ${JSON.stringify(written.text)}`
  return refuse(`${written.where} must be ${setting.expects}${got}`)
}

const reasons: { readonly [tag: string]: string } = {
  NotFound: "there is no such file",
  PermissionDenied: "the account that runs this program may not read it",
  BadResource: "it is not a file"
}

/** The reason why a file could not be read. */
const reasonOf = ({ reason }: PlatformError.PlatformError): string => reasons[reason._tag] ?? reason.message

const readTomlFile = Effect.fnUntraced(function* (settings: Settings, file: string) {
  const fileSystem = yield* FileSystem.FileSystem
  const content = yield* fileSystem
    .readFileString(file)
    .pipe(Effect.catch((error) => refuse(`--config: cannot read ${file}: ${reasonOf(error)}`)))
  const parsed = Toml.parse(content)
  if (Result.isFailure(parsed)) return yield* refuse(`--config: ${file} is not TOML: ${parsed.failure.message}`)
  return yield* flatten(settings, parsed.success, file)
})

const isTable = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date)

/** The values of a TOML document by the paths of their keys, such as `media.s3.bucket`. Tables that hold no settings stay values. */
const valuesOf = (
  names: ReadonlyArray<string>,
  document: Record<string, unknown>,
  prefix = ""
): ReadonlyArray<readonly [name: string, value: unknown]> =>
  Object.entries(document).flatMap(([key, value]) => {
    const path = `${prefix}${key}`
    const holdsSettings = names.some((name) => name.startsWith(`${path}.`))
    return isTable(value) && holdsSettings ? valuesOf(names, value, `${path}.`) : [[path, value] as const]
  })

/** The settings of a TOML document by name. Keys that are no setting are errors: most are misspelt. */
const flatten = Effect.fnUntraced(function* (settings: Settings, document: Record<string, unknown>, file: string) {
  const known = new Map(Object.values(settings).map((setting) => [setting.name, setting]))
  const out = new Map<string, Written>()
  for (const [name, value] of valuesOf([...known.keys()], document)) {
    const setting = known.get(name)
    const where = `${name} in ${file}`
    if (setting === undefined) return yield* refuse(`${where} is not a setting`)
    const text = toText(value)
    if (text === undefined) return yield* refuse(`${where} must be ${setting.expects}`)
    out.set(name, { text, where })
  }
  return out
})

/** Lists of texts have commas between them, lists of tables become JSON. */
const toText = (value: unknown): string | undefined => {
  if (Array.isArray(value)) {
    if (value.length > 0 && value.every(isTable)) return JSON.stringify(value)
    return value.every((item) => typeof item === "string") ? value.join(",") : undefined
  }
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean"
    ? String(value)
    : undefined
}

/** Checks that a file which an option names can be read. Errors: `ConfigurationError`. */
export const checkReadable = Effect.fnUntraced(function* (option: string, file: string | undefined) {
  if (file === undefined) return
  const fileSystem = yield* FileSystem.FileSystem
  yield* fileSystem
    .readFile(file)
    .pipe(Effect.catch((error) => refuse(`${option}: cannot read ${file}: ${reasonOf(error)}`)))
})

/** Makes the data directory, and checks that it can be written to. Errors: `ConfigurationError`. */
export const checkDataDir = Effect.fnUntraced(function* (directory: string) {
  yield* Effect.tryPromise(async () => {
    await makeDataDirectory(directory)
    await access(directory, constants.R_OK | constants.W_OK | constants.X_OK)
  }).pipe(Effect.catch(({ cause }) => refuse(`--data-dir: cannot write to ${directory}: ${(cause as Error).message}`)))
})
