/**
 * Reads the configuration from where an operator may write it: the command line, the environment, a TOML file. Whatever
 * is wrong there is one sentence that names the option, variable or key as the operator wrote it.
 */
import { Data, Effect, FileSystem, Option, Result, Schema } from "effect"
import { Toml } from "effect/encoding"
import { type GatewayConfig, type Setting, type SettingKey, settings } from "./GatewayConfig.ts"

/** What is wrong with the configuration, in one line. */
export class ConfigurationError extends Data.TaggedError("ConfigurationError")<{ readonly message: string }> {}

const fail = (message: string) => Effect.fail(new ConfigurationError({ message }))

/** What the operator said of a setting, and where. */
interface Written {
  readonly text: string
  /** `--port`, `GREENROOM_PORT` or `port in greenroom.toml`. */
  readonly where: string
}

export interface Sources {
  /** Options of the command line by setting, `true` and `false` for switches. */
  readonly options: { readonly [key in SettingKey]?: string | undefined }
  /** The file that `--config` names. */
  readonly configFile?: string | undefined
  readonly environment: { readonly [name: string]: string | undefined }
}

const keys = Object.keys(settings) as ReadonlyArray<SettingKey>

/** `tls_cert` becomes `tls-cert`, the name of the option. */
export const optionName = (setting: Setting<never> | { readonly name: string }): string =>
  setting.name.replace(/[._]/g, "-")

/** `turn.shared_secret` becomes `GREENROOM_TURN_SHARED_SECRET`. */
export const variableName = (setting: { readonly name: string }): string =>
  `GREENROOM_${setting.name.replace(".", "_").toUpperCase()}`

/** The configuration, checked. Errors: `ConfigurationError`. */
export const readConfig: (sources: Sources) => Effect.Effect<GatewayConfig, ConfigurationError, FileSystem.FileSystem> =
  Effect.fn("readConfig")(function* (sources) {
    const file = sources.configFile ?? (sources.environment.GREENROOM_CONFIG || undefined)
    const inFile = file === undefined ? new Map<string, Written>() : yield* readTomlFile(file)
    const out: Record<string, unknown> = {}
    for (const key of keys) out[key] = yield* decode(settings[key] as Setting<unknown>, find(key, sources, inFile))
    const config = out as unknown as GatewayConfig
    yield* checkTogether(config)
    return config
  })

const find = (key: SettingKey, sources: Sources, inFile: ReadonlyMap<string, Written>): Written | undefined => {
  const setting = settings[key]
  const option = sources.options[key]
  if (option !== undefined) return { text: option, where: writtenOption(setting, option) }
  const variable = sources.environment[variableName(setting)]
  if (variable !== undefined && variable !== "") return { text: variable, where: variableName(setting) }
  return inFile.get(setting.name)
}

const writtenOption = (setting: { readonly name: string; readonly flag?: string }, option: string): string =>
  `--${setting.flag === "switch" && option === "false" ? "no-" : ""}${optionName(setting)}`

const decode = (
  setting: Setting<unknown>,
  written: Written | undefined
): Effect.Effect<unknown, ConfigurationError> => {
  if (written === undefined) return Effect.succeed(setting.fallback)
  const value = Schema.decodeUnknownOption(setting.schema)(written.text)
  if (Option.isSome(value)) return Effect.succeed(value.value)
  const got = setting.secret ? "" : `, not ${JSON.stringify(written.text)}`
  return fail(`${written.where} must be ${setting.expects}${got}`)
}

const readTomlFile = Effect.fnUntraced(function* (file: string) {
  const fileSystem = yield* FileSystem.FileSystem
  const content = yield* fileSystem
    .readFileString(file)
    .pipe(Effect.catch((error) => fail(`--config: cannot read ${file}: ${error.reason._tag}`)))
  const parsed = Toml.parse(content)
  if (Result.isFailure(parsed)) return yield* fail(`--config: ${file} is not TOML: ${parsed.failure.message}`)
  return yield* flatten(parsed.success, file)
})

const known: ReadonlySet<string> = new Set(keys.map((key) => settings[key].name))
const tables: ReadonlySet<string> = new Set(
  [...known].filter((name) => name.includes(".")).map((name) => name.slice(0, name.indexOf(".")))
)

const isTable = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof Date)

/** The settings of a TOML document by name. Keys that are no setting are errors: they are mostly misspelt. */
const flatten = (document: Record<string, unknown>, file: string) =>
  Effect.gen(function* () {
    const out = new Map<string, Written>()
    const entries = Object.entries(document).flatMap(([key, value]) =>
      tables.has(key) && isTable(value)
        ? Object.entries(value).map(([inner, item]) => [`${key}.${inner}`, item] as const)
        : [[key, value] as const]
    )
    for (const [name, value] of entries) {
      if (!known.has(name)) return yield* fail(`${name} in ${file} is not a setting`)
      const text = toText(value)
      if (text === undefined) return yield* fail(`${name} in ${file} must be a text, a number, true, false or a list`)
      out.set(name, { text, where: `${name} in ${file}` })
    }
    return out
  })

const toText = (value: unknown): string | undefined => {
  if (Array.isArray(value)) return value.every((item) => typeof item === "string") ? value.join(",") : undefined
  return typeof value === "string" || typeof value === "number" || typeof value === "boolean"
    ? String(value)
    : undefined
}

/** What no setting can say alone. */
const checkTogether = Effect.fnUntraced(function* (config: GatewayConfig) {
  if ((config.tlsCert === undefined) !== (config.tlsKey === undefined)) {
    return yield* fail("--tls-cert and --tls-key must be given together")
  }
  yield* checkReadable("--tls-cert", config.tlsCert)
  yield* checkReadable("--tls-key", config.tlsKey)
  if (config.turnUris.length > 0 && config.turnSharedSecret === undefined) {
    return yield* fail("turn.uris needs turn.shared_secret")
  }
  if (config.federationPort !== 0 && config.federationPort === config.port) {
    return yield* fail(`--federation-port must differ from --port, both are ${config.port}`)
  }
  yield* checkDataDir(config.dataDir)
})

const checkReadable = Effect.fnUntraced(function* (option: string, file: string | undefined) {
  if (file === undefined) return
  const fileSystem = yield* FileSystem.FileSystem
  yield* fileSystem
    .readFile(file)
    .pipe(Effect.catch((error) => fail(`${option}: cannot read ${file}: ${error.reason._tag}`)))
})

const checkDataDir = Effect.fnUntraced(function* (directory: string) {
  const fileSystem = yield* FileSystem.FileSystem
  yield* fileSystem.makeDirectory(directory, { recursive: true }).pipe(
    Effect.andThen(fileSystem.access(directory, { readable: true, writable: true })),
    Effect.catch((error) => fail(`--data-dir: cannot write to ${directory}: ${error.reason._tag}`))
  )
})
