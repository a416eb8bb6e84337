/**
 * Leads administrative commands to the database that the settings name, or that a running gateway has in the data
 * directory. A command builds the services that it needs on it, and no others.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Administration } from "@greenroom/actors/account/Administration"
import { LoginConfig } from "@greenroom/actors/account/login/LoginConfig"
import { Passwords } from "@greenroom/actors/account/Passwords"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { AccountStandingStore } from "@greenroom/store/AccountStandingStore"
import { AccountStore } from "@greenroom/store/AccountStore"
import { AuditStore } from "@greenroom/store/AuditStore"
import * as Database from "@greenroom/store/Database"
import { NoticeStore } from "@greenroom/store/NoticeStore"
import { RegistrationTokenStore } from "@greenroom/store/RegistrationTokenStore"
import { findRunningPostgres } from "@greenroom/store/RunningPostgres"
import { ServerSettings } from "@greenroom/store/ServerSettings"
import { UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { Effect, Layer, Option } from "effect"
import type { SqlClient } from "effect/sql"
import { readConfig } from "../ConfigSources.ts"
import type { GatewayConfig } from "../GatewayConfig.ts"
import { toLoginOptions } from "../LoginSettings.ts"
import { AdminFailure, type PlaceFlags, toPlace } from "./Place.ts"

/** The settings of the gateway, as it would read them with the same options. */
export const configOf = Effect.fnUntraced(function* (flags: PlaceFlags) {
  const { config, dataDir, databaseUrl, serverName } = toPlace(flags)
  return yield* readConfig({
    options: { dataDir, databaseUrl, serverName },
    configFile: config,
    environment: process.env
  })
}, Effect.provide(NodeServices.layer))

/** The URL of the database: the configured one, or that of a gateway which runs its own; none where it does not run. */
export const databaseUrlOf = (config: GatewayConfig) =>
  config.databaseUrl === undefined
    ? findRunningPostgres(config.dataDir)
    : Effect.succeed(Option.some(config.databaseUrl))

/** The migrated database. The embedded PostgreSQL is started for it where it does not run. */
export const onSql = (flags: PlaceFlags) =>
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

/** The services that `build` makes on the database. */
export const onDatabase = <A, E>(
  flags: PlaceFlags,
  build: (config: GatewayConfig) => Layer.Layer<A, E, SqlClient.SqlClient | HomeServerConfig | ServerSettings>
) =>
  Layer.unwrap(
    Effect.map(configOf(flags), (config) =>
      build(config).pipe(
        Layer.provide(ServerSettings.layer(config.serverName)),
        Layer.provide(Layer.succeed(HomeServerConfig, homeServerOf(config))),
        Layer.provide(onSql(flags))
      )
    )
  )

/** Accounts, tokens and devices, on the stores alone. */
export const administration = (config: GatewayConfig) =>
  Administration.layerOnStores.pipe(
    Layer.provide([
      AccountStore.layer,
      AccountStandingStore.layer,
      NoticeStore.layer,
      UserIdentityStore.layer,
      RegistrationTokenStore.layer,
      Passwords.layer
    ]),
    Layer.provide(Layer.succeed(LoginConfig, toLoginOptions(config))),
    Layer.provide(NodeServices.layer)
  )

/** The actor of the command line's actions in the audit log. */
export const commandLine = "command line"

type Admin = Administration["Service"]

/** The same, where each change is in the audit log before it is made. */
const audited = (admin: Admin, audit: AuditStore["Service"]): Admin => {
  const record = (action: string, target?: string, details?: { readonly [name: string]: unknown }) =>
    audit.append({ actor: commandLine, action, target, details })
  return {
    ...admin,
    createUser: (options) =>
      Effect.andThen(record("user.create", options.user, { admin: options.admin ?? false }), admin.createUser(options)),
    setAdmin: (user, isAdmin) =>
      Effect.andThen(record("user.set_admin", user, { admin: isAdmin }), admin.setAdmin(user, isAdmin)),
    resetPassword: (user, password) =>
      Effect.andThen(record("user.reset_password", user), admin.resetPassword(user, password)),
    setStanding: (user, change) =>
      Effect.andThen(record("user.set_standing", user, change), admin.setStanding(user, change)),
    sendNotice: (user, text) => Effect.andThen(record("user.notice", user), admin.sendNotice(user, text)),
    deactivate: (user, ...rest) => Effect.andThen(record("user.deactivate", user), admin.deactivate(user, ...rest)),
    approve: (user) => Effect.andThen(record("registration.approve", user), admin.approve(user)),
    reject: (user) => Effect.andThen(record("registration.reject", user), admin.reject(user)),
    removeDevice: (user, device) =>
      Effect.andThen(record("user.logout", user, { devices: [device] }), admin.removeDevice(user, device)),
    createToken: (options) => Effect.andThen(record("token.create"), admin.createToken(options)),
    removeToken: (tokenId) => Effect.andThen(record("token.delete", tokenId), admin.removeToken(tokenId))
  }
}

/** Does something with accounts and tokens. Errors of the protocol become sentences for the operator. */
export const withAdministration = <A, R>(
  flags: PlaceFlags,
  use: (admin: Administration["Service"]) => Effect.Effect<A, MatrixError | AdminFailure, R>
) =>
  Effect.gen(function* () {
    return yield* use(audited(yield* Administration, yield* AuditStore))
  }).pipe(
    Effect.mapError((error) => ("error" in error ? new AdminFailure({ message: error.error }) : error)),
    Effect.provide(onDatabase(flags, (config) => Layer.merge(administration(config), AuditStore.layer)))
  )
