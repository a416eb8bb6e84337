/**
 * Where an administrative command works, as its options say, and how it fails.
 */
import { Data, Option } from "effect"
import { Flag } from "effect/cli"

/** It could not be done; the message is for the operator. */
export class AdminFailure extends Data.TaggedError("AdminFailure")<{ readonly message: string }> {}

/** Where the settings are, in the words of the gateway's options. */
export interface Place {
  readonly config: string | undefined
  readonly dataDir: string | undefined
  readonly databaseUrl: string | undefined
  readonly serverName: string | undefined
}

export const place = {
  config: Flag.String("config").pipe(Flag.withDescription("The TOML file of the gateway"), Flag.optional),
  dataDir: Flag.String("data-dir").pipe(Flag.withDescription("The data directory of the gateway"), Flag.optional),
  databaseUrl: Flag.String("database-url").pipe(Flag.withDescription("The database of the gateway"), Flag.optional),
  serverName: Flag.String("server-name").pipe(Flag.withDescription("The name of the home server"), Flag.optional)
}

export type PlaceFlags = { readonly [K in keyof Place]: Option.Option<string> }

export const toPlace = (flags: PlaceFlags): Place => ({
  config: Option.getOrUndefined(flags.config),
  dataDir: Option.getOrUndefined(flags.dataDir),
  databaseUrl: Option.getOrUndefined(flags.databaseUrl),
  serverName: Option.getOrUndefined(flags.serverName)
})
