/**
 * Accounts, tokens and devices for commands: on the database alone, with each change in the audit log.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { Administration } from "@greenroom/actors/account/Administration"
import { LoginConfig } from "@greenroom/actors/account/login/LoginConfig"
import { Passwords } from "@greenroom/actors/account/Passwords"
import { type ServerName, userIdOfName } from "@greenroom/protocol/Identifiers"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { AccountStandingStore } from "@greenroom/store/AccountStandingStore"
import { AccountStore } from "@greenroom/store/AccountStore"
import { AuditStore, type NewAuditEntry } from "@greenroom/store/AuditStore"
import { NoticeStore } from "@greenroom/store/NoticeStore"
import { OutgoingMailStore } from "@greenroom/store/OutgoingMailStore"
import { RegistrationTokenStore } from "@greenroom/store/RegistrationTokenStore"
import { UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type { GatewayConfig } from "../GatewayConfig.ts"
import { toLoginOptions } from "../LoginSettings.ts"
import { commandLine } from "./Audited.ts"
import { configOf } from "./CommandConfig.ts"
import type { CommandOptions } from "./CommandOptions.ts"
import { AdminFailure } from "./CommandOutput.ts"
import { onDatabase } from "./Connection.ts"

/** Accounts, tokens and devices, on the stores alone. */
export const administration = (config: GatewayConfig) =>
  Administration.layerOnStores.pipe(
    Layer.provide([
      AccountStore.layer,
      AccountStandingStore.layer,
      NoticeStore.layer,
      OutgoingMailStore.layer,
      UserIdentityStore.layer,
      RegistrationTokenStore.layer,
      Passwords.layer
    ]),
    Layer.provide(Layer.succeed(LoginConfig, toLoginOptions(config))),
    Layer.provide(NodeServices.layer)
  )

type Admin = Administration["Service"]

/** With each change in the audit log. */
const withAudit = (admin: Admin, audit: AuditStore["Service"], serverName: ServerName): Admin => {
  const recorded =
    (action: string, target?: string, details?: NewAuditEntry["details"]) =>
    <A, E>(change: Effect.Effect<A, E>) =>
      audit.run({ actor: commandLine, action, target, details }, change)
  const onUser = (action: string, name: string, details?: NewAuditEntry["details"]) =>
    recorded(action, userIdOfName(name, serverName), details)
  return {
    ...admin,
    createUser: (options) =>
      onUser("user.create", options.user, { admin: options.admin ?? false })(admin.createUser(options)),
    setAdmin: (user, isAdmin) => onUser("user.set_admin", user, { admin: isAdmin })(admin.setAdmin(user, isAdmin)),
    resetPassword: (user, password) => onUser("user.reset_password", user)(admin.resetPassword(user, password)),
    setStanding: (user, change) => onUser("user.set_standing", user, { ...change })(admin.setStanding(user, change)),
    sendNotice: (user, text) => onUser("user.notice", user)(admin.sendNotice(user, text)),
    deactivate: (user, ...rest) => onUser("user.deactivate", user)(admin.deactivate(user, ...rest)),
    approve: (user) => onUser("registration.approve", user)(admin.approve(user)),
    reject: (user) => onUser("registration.reject", user)(admin.reject(user)),
    removeDevice: (user, device) =>
      onUser("user.logout", user, { devices: [device] })(admin.removeDevice(user, device)),
    createToken: (options) => recorded("token.create")(admin.createToken(options)),
    removeToken: (tokenId) => recorded("token.delete", tokenId)(admin.removeToken(tokenId))
  }
}

/** Runs `use` with the administration of accounts and tokens. Errors of the protocol become sentences for the operator. */
export const withAdministration = <A, R>(
  flags: CommandOptions,
  use: (admin: Administration["Service"]) => Effect.Effect<A, MatrixError | AdminFailure, R>,
  mayBeFirst = false
) =>
  Effect.gen(function* () {
    return yield* use(withAudit(yield* Administration, yield* AuditStore, (yield* configOf(flags)).serverName))
  }).pipe(
    Effect.mapError((error) => ("error" in error ? new AdminFailure({ message: error.error }) : error)),
    Effect.provide(onDatabase(flags, (config) => Layer.merge(administration(config), AuditStore.layer), mayBeFirst))
  )
