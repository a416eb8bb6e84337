/**
 * Connects administrative commands to the configured database, or to that of a running gateway in the data directory. A command builds
 * only the services that it needs.
 */
import * as fs from "node:fs"
import * as path from "node:path"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import * as Database from "@greenroom/store/Database"
import { ServerSettings } from "@greenroom/store/ServerSettings"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as SqlClient from "effect/sql/SqlClient"
import type { GatewayConfig } from "../GatewayConfig.ts"
import { configOf, databaseUrlOf } from "./CommandConfig.ts"
import type { CommandOptions } from "./CommandOptions.ts"
import { AdminFailure } from "./CommandOutput.ts"

/** The migrated database. Starts the embedded PostgreSQL if it does not run. */
export const onSql = (flags: CommandOptions) =>
  Layer.unwrap(
    Effect.gen(function* () {
      const config = yield* configOf(flags)
      const databaseUrl = Option.getOrUndefined(yield* databaseUrlOf(config))
      return Database.layer({ databaseUrl, dataDir: config.dataDir, maxConnections: 2 })
    })
  )

/** The parts of the home server's configuration that the services of commands need. */
const homeServerOf = ({
  dataDir,
  serverName,
  serverNoticesLocalpart: localpart,
  serverNoticesName
}: GatewayConfig) => ({
  serverName,
  dataDir,
  ...(localpart === undefined ? {} : { serverNotices: { localpart, name: serverNoticesName } })
})

/** Fails for a data directory without a database, so that a misspelt name does not create a new one. */
const requireDatabase = ({ databaseUrl, dataDir }: GatewayConfig): Effect.Effect<void, AdminFailure> =>
  databaseUrl !== undefined || fs.existsSync(path.join(dataDir, "postgres"))
    ? Effect.void
    : Effect.fail(
        new AdminFailure({
          message: `${path.resolve(dataDir)} has no database: start the server once, or name its directory with --data-dir`
        })
      )

/** The services that `build` makes on the database. Fails if there is no database, unless the command may create it. */
export const onDatabase = <A, E>(
  flags: CommandOptions,
  build: (config: GatewayConfig) => Layer.Layer<A, E, SqlClient.SqlClient | HomeServerConfig | ServerSettings>,
  mayBeFirst = false
) =>
  Layer.unwrap(
    Effect.map(Effect.tap(configOf(flags), mayBeFirst ? Effect.succeed : requireDatabase), (config) =>
      build(config).pipe(
        Layer.provide(ServerSettings.layer(config.serverName)),
        Layer.provide(Layer.succeed(HomeServerConfig, homeServerOf(config))),
        Layer.provide(onSql(flags))
      )
    )
  )

/** The actor of the command line's actions in the audit log. */
export const commandLine = "command line"
