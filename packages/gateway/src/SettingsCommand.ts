/**
 * The command line of a program, made of its settings. A fault is one line on stderr; `--help` lists the options with their
 * defaults.
 */
import * as Console from "effect/Console"
import * as CliConfig from "effect/cli/CliConfig"
import * as CliOutput from "effect/cli/CliOutput"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as GlobalFlag from "effect/cli/GlobalFlag"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type { Setting, Settings } from "./Setting.ts"
import { optionName, type Sources } from "./SettingSources.ts"

type Options = { readonly [name: string]: Option.Option<string | boolean> }

/** A program for `--help` and `--version`. */
export interface ProgramDescription {
  readonly name: string
  readonly description: string
  /** The output of `--version`. */
  readonly version: string
  readonly settings: Settings
  /** The file that describes the settings. */
  readonly manual: string
}

/** Commands of a program beside its start: `greenroom-identity rotate-key --config identity.toml`. */
export interface Task<E, R> {
  readonly name: string
  readonly description: string
  readonly run: (sources: Sources) => Effect.Effect<void, E, R>
}

const describe = (setting: Setting<unknown>): string =>
  setting.fallback === undefined ? setting.description : `${setting.description} (default: ${String(setting.fallback)})`

const toFlag = (setting: Setting<unknown>): Flag.Flag<Option.Option<string | boolean>> => {
  const flag: Flag.Flag<string | boolean> =
    setting.flag === "switch"
      ? Flag.Boolean(optionName(setting))
      : Flag.String(optionName(setting)).pipe(Flag.withMetavar(setting.flag ?? "text"))
  return flag.pipe(Flag.withDescription(describe(setting)), Flag.optional)
}

const configFlag = (manual: string) =>
  Flag.String("config").pipe(
    Flag.withMetavar("file"),
    Flag.withDescription(`A TOML file with settings, also those that have no option here. See ${manual}`),
    Flag.optional
  )

/** The flags of the settings that can be given on the command line, by the key of the setting. */
export const settingFlags = (settings: Settings): Record<string, Flag.Flag<Option.Option<string | boolean>>> =>
  Object.fromEntries(
    Object.entries(settings).flatMap(([key, setting]) =>
      "flag" in setting ? [[key, toFlag(setting as Setting<unknown>)]] : []
    )
  )

/** The values of the parsed flags that were given, by the key of the setting. */
export const givenOptions = (
  keys: ReadonlyArray<string>,
  options: { readonly [name: string]: unknown }
): Sources["options"] =>
  Object.fromEntries(
    keys.flatMap((key) => {
      const option = options[key]
      return Option.isOption(option) && Option.isSome(option) ? [[key, String(option.value)]] : []
    })
  )

const toSources = (keys: ReadonlyArray<string>, options: Options, environment: Sources["environment"]): Sources => ({
  options: givenOptions(keys, options),
  configFile: Option.getOrUndefined(options.config ?? Option.none()) as string | undefined,
  environment
})

/** Prints an error as one line. */
export const printError = (program: string, message: string): Effect.Effect<void> =>
  Console.error(`${program}: ${message.replace(/\s*\n\s*/g, " ")}`)

/** Runs `start`, or a task, with what the operator wrote. `--help` and `--version` print and run nothing. */
export const runCommandLine = <E, R>(
  { description, manual, name, settings, version }: ProgramDescription,
  args: ReadonlyArray<string>,
  environment: Sources["environment"],
  start: (sources: Sources) => Effect.Effect<void, E, R>,
  tasks: ReadonlyArray<Task<E, R>> = []
) => {
  const ofSettings = settingFlags(settings)
  const keys = Object.keys(ofSettings)
  const flags = { ...ofSettings, config: configFlag(manual) }
  const sourcesOf = (options: unknown) => toSources(keys, options as Options, environment)
  const program = Command.make(name).pipe(
    Command.withSharedFlags(flags),
    Command.withHandler((options) => start(sourcesOf(options))),
    Command.withDescription(description)
  )
  const subcommands = tasks.map((task) =>
    Command.make(task.name, {}, () => Effect.flatMap(program, (options) => task.run(sourcesOf(options)))).pipe(
      Command.withDescription(task.description)
    )
  )
  const command = subcommands.length === 0 ? program : program.pipe(Command.withSubcommands(subcommands))
  return Command.runWith(command, { version })(args)
}

/** `Unrecognized flag: --prot in command X Did you mean this? --port` as two sentences. */
const describeInvocation = (message = "wrong options"): string =>
  message.replace(/\s*Did you mean this\?\s*/, ". Did you mean ").replace(/(\. Did you mean .*)$/s, "$1?")

/** Services that `runCommandLine` needs beside the platform's: errors in one line, without the help before them. */
export const layer = (program: string): Layer.Layer<never> =>
  Layer.merge(
    CliOutput.layerPresenter({
      present: (event) =>
        event._tag === "InvalidInvocation"
          ? printError(program, `${describeInvocation(event.errors[0]?.message)} (see --help)`)
          : CliOutput.defaultPresenter.present(event)
    }),
    CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version] })
  )
