/**
 * Administration of accounts, as calls of `Administration`. Callers: users with the admin flag.
 */
import { type Account, Administration, type RegistrationToken } from "@greenroom/actors/account/Administration"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import type { AdminUser } from "@greenroom/protocol/api/AdminApi"
import { done } from "@greenroom/protocol/api/Body"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { type UserId, userIdOfName } from "@greenroom/protocol/Identifiers"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Effect, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { makeAsAdmin } from "../admin/AdminAction.ts"
import { Sockets } from "../socket/Sockets.ts"
import { withServices } from "./EndpointServices.ts"

const toUser = ({ admin, createdAt, deactivatedAt, passwordHash, userId }: Account): AdminUser => ({
  user_id: userId,
  admin,
  has_password: passwordHash !== undefined,
  created_ts: createdAt,
  ...(deactivatedAt === undefined ? {} : { deactivated_ts: deactivatedAt })
})

const toToken = ({ createdAt, expiresAt, tokenId, uses, usesAllowed }: RegistrationToken) => ({
  token_id: tokenId,
  uses,
  created_ts: createdAt,
  ...(usesAllowed === undefined ? {} : { uses_allowed: usesAllowed }),
  ...(expiresAt === undefined ? {} : { expires_ts: expiresAt })
})

const redacted = (text: string | undefined) => (text === undefined ? undefined : Redacted.make(text))

export const adminHandlers = HttpApiBuilder.group(ClientApi, "admin", (handlers) =>
  withServices(function* () {
    const admin = yield* Administration
    const { serverName } = yield* HomeServerConfig
    const sockets = yield* Sockets
    const asAdmin = yield* makeAsAdmin

    const closing = (action: string, userId: UserId, effect: Effect.Effect<void, MatrixError>) =>
      asAdmin({ action, target: userId }, () => Effect.as(Effect.andThen(effect, sockets.closeUser(userId)), done))

    return handlers
      .handle("users", ({ query }) =>
        asAdmin({ action: "user.list" }, () =>
          Effect.map(admin.users(query.after as UserId | undefined), ({ accounts, next }) => ({
            users: accounts.map(toUser),
            ...(next === undefined ? {} : { next })
          }))
        )
      )
      .handle("createUser", ({ payload }) =>
        asAdmin({ action: "user.create", target: userIdOfName(payload.user, serverName) }, () =>
          Effect.map(
            admin.createUser({
              user: payload.user,
              password: redacted(payload.password),
              admin: payload.admin,
              email: payload.email
            }),
            toUser
          )
        )
      )
      .handle("user", ({ params }) =>
        asAdmin({ action: "user.show", target: params.userId }, () => Effect.map(admin.user(params.userId), toUser))
      )
      .handle("setAdmin", ({ params, payload }) =>
        asAdmin({ action: "user.set_admin", target: params.userId, details: { admin: payload.admin } }, () =>
          Effect.as(admin.setAdmin(params.userId, payload.admin), done)
        )
      )
      .handle("resetPassword", ({ params, payload }) =>
        closing(
          "user.reset_password",
          params.userId,
          admin.resetPassword(params.userId, Redacted.make(payload.new_password))
        )
      )
      .handle("deactivate", ({ params }) => closing("user.deactivate", params.userId, admin.deactivate(params.userId)))
      .handle("devices", ({ params }) =>
        asAdmin({ action: "user.devices", target: params.userId }, () =>
          Effect.map(admin.devices(params.userId), (devices) => ({ devices }))
        )
      )
      .handle("removeDevice", ({ params }) =>
        asAdmin({ action: "user.logout", target: params.userId }, () =>
          Effect.flatMap(admin.removeDevice(params.userId, params.deviceId), (ended) =>
            Effect.as(Effect.forEach(ended, sockets.closeToken, { discard: true }), done)
          )
        )
      )
      .handle("registrationTokens", () =>
        asAdmin({ action: "token.list" }, () =>
          Effect.map(admin.tokens, (tokens) => ({ registration_tokens: tokens.map(toToken) }))
        )
      )
      .handle("createRegistrationToken", ({ payload }) =>
        asAdmin({ action: "token.create" }, () =>
          Effect.map(
            admin.createToken({
              token: redacted(payload.token),
              uses: payload.unlimited ? "unlimited" : payload.uses_allowed,
              validFor: payload.valid_for
            }),
            ({ token, tokenId }) => ({ token: Redacted.value(token), token_id: tokenId })
          )
        )
      )
      .handle("removeRegistrationToken", ({ params }) =>
        asAdmin({ action: "token.delete", target: params.tokenId }, () =>
          Effect.as(admin.removeToken(params.tokenId), done)
        )
      )
  })
)
