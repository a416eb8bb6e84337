/**
 * The options of every administrative command: those of the gateway that locate its settings, and `--json`; and the argument of commands
 * about a user.
 */
import * as Argument from "effect/cli/Argument"
import * as Flag from "effect/cli/Flag"
import * as Option from "effect/Option"

/** The options of the gateway that locate its settings. */
interface SettingsLocation {
  readonly config: string | undefined
  readonly dataDir: string | undefined
  readonly databaseUrl: string | undefined
  readonly serverName: string | undefined
}

/** The options of every administrative command. */
export const commandOptions = {
  config: Flag.String("config").pipe(Flag.withDescription("The TOML file of the gateway"), Flag.optional),
  dataDir: Flag.String("data-dir").pipe(Flag.withDescription("The data directory of the gateway"), Flag.optional),
  databaseUrl: Flag.String("database-url").pipe(Flag.withDescription("The database of the gateway"), Flag.optional),
  serverName: Flag.String("server-name").pipe(Flag.withDescription("The name of the home server"), Flag.optional),
  json: Flag.Boolean("json").pipe(Flag.withDefault(false), Flag.withDescription("Print JSON, one value a line"))
}

/** The argument of the commands about one user. */
export const user = Argument.String("user").pipe(Argument.withDescription("A user name, or a whole user ID"))

/** The parsed options that locate the settings. */
export type CommandOptions = { readonly [K in keyof SettingsLocation]: Option.Option<string> }

/** The options in the form of the gateway's configuration. */
export const settingsLocation = (options: CommandOptions): SettingsLocation => ({
  config: Option.getOrUndefined(options.config),
  dataDir: Option.getOrUndefined(options.dataDir),
  databaseUrl: Option.getOrUndefined(options.databaseUrl),
  serverName: Option.getOrUndefined(options.serverName)
})
