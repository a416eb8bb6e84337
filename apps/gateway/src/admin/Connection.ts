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

/** The database, by one of the layers of `Database`. Starts the embedded PostgreSQL if it does not run. */
const onSql = <E>(
  flags: CommandOptions,
  layer: (options: Database.DatabaseOptions) => Layer.Layer<SqlClient.SqlClient, E>
) =>
  Layer.unwrap(
    Effect.gen(function* () {
      const config = yield* configOf(flags)
      const databaseUrl = Option.getOrUndefined(yield* databaseUrlOf(config))
      return layer({ databaseUrl, dataDir: config.dataDir, maxConnections: 2 })
    })
  )

/** The database, created and migrated if need be. */
export const onMigratedSql = (flags: CommandOptions) => onSql(flags, Database.layer)

/** The database of a home server of this version. Fails if there is none, and creates nothing. */
const onExistingSql = (flags: CommandOptions) =>
  Layer.unwrap(Effect.as(Effect.flatMap(configOf(flags), requireDatabase), onSql(flags, Database.currentLayer)))

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

/** The services that `build` makes on the database, which `mayBeFirst` creates and migrates if need be. */
export const onDatabase = <A, E>(
  flags: CommandOptions,
  build: (config: GatewayConfig) => Layer.Layer<A, E, SqlClient.SqlClient | HomeServerConfig | ServerSettings>,
  mayBeFirst = false
) =>
  Layer.unwrap(
    Effect.map(configOf(flags), (config) =>
      build(config).pipe(
        Layer.provide(ServerSettings.layer(config.serverName)),
        Layer.provide(Layer.succeed(HomeServerConfig, homeServerOf(config))),
        Layer.provide(mayBeFirst ? onMigratedSql(flags) : onExistingSql(flags))
      )
    )
  )
