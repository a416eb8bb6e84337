/**
 * Connects administrative commands to the configured database, or to that of a running gateway in the data directory. A command builds
 * only the services that it needs.
 */
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import * as Database from "@greenroom/store/Database"
import { ServerSettings } from "@greenroom/store/ServerSettings"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as SqlClient from "effect/sql/SqlClient"
import type { GatewayConfig } from "../GatewayConfig.ts"
import { configOf, databaseUrlOf, requireDatabase } from "./CommandConfig.ts"
import type { CommandOptions } from "./CommandOptions.ts"

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
