/**
 * Administration of accounts, as calls of `Administration`. Callers: users with the admin flag.
 */
import { type Account, Administration, type RegistrationToken } from "@greenroom/actors/account/Administration"
import { AuditLog } from "@greenroom/actors/admin/AuditLog"
import type { AdminUser } from "@greenroom/protocol/api/AdminApi"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Effect, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
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
    const sockets = yield* Sockets

    const audit = yield* AuditLog

    /** The action is in the audit log before it runs. */
    const asAdmin = <A>(
      action: string,
      target: string | undefined,
      effect: Effect.Effect<A, MatrixError>,
      details: { readonly [name: string]: unknown } = {}
    ) =>
      CurrentSession.use((session) =>
        admin
          .requireAdmin(session)
          .pipe(
            Effect.andThen(audit.record({ actor: session.userId, action, target, details })),
            Effect.andThen(effect)
          )
      )

    const closing = (action: string, userId: UserId, effect: Effect.Effect<void, MatrixError>) =>
      asAdmin(action, userId, Effect.as(Effect.andThen(effect, sockets.closeUser(userId)), done))

    return handlers
      .handle("users", ({ query }) =>
        asAdmin(
          "user.list",
          undefined,
          Effect.map(admin.users(query.after as UserId | undefined), ({ accounts, next }) => ({
            users: accounts.map(toUser),
            ...(next === undefined ? {} : { next })
          }))
        )
      )
      .handle("createUser", ({ payload }) =>
        asAdmin(
          "user.create",
          payload.user,
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
        asAdmin("user.show", params.userId, Effect.map(admin.user(params.userId), toUser))
      )
      .handle("setAdmin", ({ params, payload }) =>
        asAdmin("user.set_admin", params.userId, Effect.as(admin.setAdmin(params.userId, payload.admin), done), {
          admin: payload.admin
        })
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
        asAdmin(
          "user.devices",
          params.userId,
          Effect.map(admin.devices(params.userId), (devices) => ({ devices }))
        )
      )
      .handle("removeDevice", ({ params }) =>
        asAdmin(
          "user.logout",
          params.userId,
          Effect.flatMap(admin.removeDevice(params.userId, params.deviceId), (ended) =>
            Effect.as(Effect.forEach(ended, sockets.closeToken, { discard: true }), done)
          )
        )
      )
      .handle("registrationTokens", () =>
        asAdmin(
          "token.list",
          undefined,
          Effect.map(admin.tokens, (tokens) => ({ registration_tokens: tokens.map(toToken) }))
        )
      )
      .handle("createRegistrationToken", ({ payload }) =>
        asAdmin(
          "token.create",
          undefined,
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
        asAdmin("token.delete", params.tokenId, Effect.as(admin.removeToken(params.tokenId), done))
      )
  })
)
