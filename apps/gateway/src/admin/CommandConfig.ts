/**
 * The settings that commands read, and the URL of their database. Commands that need no more load no services.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import * as NodeServices from "@effect/platform-node/NodeServices"
import { findRunningPostgres } from "@greenroom/store/RunningPostgres"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { readConfig, type Sources } from "../ConfigSources.ts"
import type { GatewayConfig } from "../GatewayConfig.ts"
import { type CommandOptions, settingsLocation } from "./CommandOptions.ts"
import { AdminFailure } from "./CommandOutput.ts"

/** The settings of the gateway with these options, and with `others` that the command takes. */
export const configOf = Effect.fnUntraced(function* (flags: CommandOptions, others: Sources["options"] = {}) {
  const { config, dataDir, databaseUrl, serverName } = settingsLocation(flags)
  return yield* readConfig({
    options: { ...others, dataDir, databaseUrl, serverName },
    configFile: config,
    environment: process.env
  })
}, Effect.provide(NodeServices.layer))

/** The URL of the database: the configured one, or that of a running gateway with an embedded one; none if it does not run. */
export const databaseUrlOf = (config: GatewayConfig) =>
  config.databaseUrl === undefined
    ? findRunningPostgres(config.dataDir)
    : Effect.succeed(Option.some(config.databaseUrl))

/** Fails for a data directory without a database, so that a misspelt name does not create a new one. */
export const requireDatabase = ({ databaseUrl, dataDir }: GatewayConfig): Effect.Effect<void, AdminFailure> =>
  databaseUrl !== undefined || fs.existsSync(path.join(dataDir, "postgres"))
    ? Effect.void
    : Effect.fail(
        new AdminFailure({
          message: `${path.resolve(dataDir)} has no database: start the server once, or name its directory with --data-dir`
        })
      )
