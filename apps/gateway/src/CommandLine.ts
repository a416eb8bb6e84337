/**
 * The command line of the gateway program, made of the settings. What is wrong with it is one line on stderr; `--help`
 * lists the options and says what holds without them.
 */
import { Console, type Effect, Layer, Option } from "effect"
import { CliConfig, CliOutput, Command, Flag, GlobalFlag } from "effect/cli"
import { optionName, type Sources } from "./ConfigSources.ts"
import { type Setting, type SettingKey, settings } from "./GatewayConfig.ts"

/** The version that `--version` and `/health` tell. */
export const version = "0.1.0"

type Options = { readonly [name: string]: Option.Option<string | boolean> }

const describe = (setting: Setting<unknown>): string =>
  setting.fallback === undefined ? setting.description : `${setting.description} (default: ${String(setting.fallback)})`

const toFlag = (setting: Setting<unknown>): Flag.Flag<Option.Option<string | boolean>> => {
  const flag: Flag.Flag<string | boolean> =
    setting.flag === "switch"
      ? Flag.Boolean(optionName(setting))
      : Flag.String(optionName(setting)).pipe(Flag.withMetavar(setting.flag ?? "text"))
  return flag.pipe(Flag.withDescription(describe(setting)), Flag.optional)
}

const withFlag = (Object.keys(settings) as ReadonlyArray<SettingKey>).filter((key) => "flag" in settings[key])

const flags: Record<string, Flag.Flag<Option.Option<string | boolean>>> = {
  ...Object.fromEntries(withFlag.map((key) => [key, toFlag(settings[key] as Setting<unknown>)])),
  config: Flag.String("config").pipe(
    Flag.withMetavar("file"),
    Flag.withDescription("A TOML file with settings, also those that have no option here. See docs/configuration.md"),
    Flag.optional
  )
}

const toSources = (options: Options, environment: Sources["environment"]): Sources => ({
  options: Object.fromEntries(
    withFlag.flatMap((key) =>
      Option.match(options[key] ?? Option.none(), {
        onNone: () => [],
        onSome: (value) => [[key, String(value)]]
      })
    )
  ),
  configFile: Option.getOrUndefined(options.config ?? Option.none()) as string | undefined,
  environment
})

/** One line, whatever it is. */
export const printError = (message: string): Effect.Effect<void> =>
  Console.error(`greenroom: ${message.replace(/\s*\n\s*/g, " ")}`)

/** Errors in one line, without the help in front of them. */
const presenter = CliOutput.layerPresenter({
  present: (event) =>
    event._tag === "InvalidInvocation"
      ? printError(`${event.errors[0]?.message ?? "wrong options"} (see --help)`)
      : CliOutput.defaultPresenter.present(event)
})

/** Runs `start` with what the operator wrote. `--help` and `--version` print and do not run it. */
export const runCommandLine = <E, R>(
  args: ReadonlyArray<string>,
  environment: Sources["environment"],
  start: (sources: Sources) => Effect.Effect<void, E, R>
) => {
  const command = Command.make("greenroom", flags, (options) => start(toSources(options as Options, environment))).pipe(
    Command.withDescription("A Matrix home server.")
  )
  return Command.runWith(command, { version })(args)
}

/** What `runCommandLine` needs beside the services of the platform. */
export const layer: Layer.Layer<never> = Layer.merge(
  presenter,
  CliConfig.layer({ builtIns: [GlobalFlag.Help, GlobalFlag.Version] })
)
