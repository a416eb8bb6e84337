/**
 * Logging in, renewing access tokens, registration: calls of `Accounts`, `InteractiveAuth` and `Registration`.
 *
 * Source: "Legacy API" of "Client Authentication" of the client-server specification.
 */
import { Accounts } from "@greenroom/actors/account/Accounts"
import { AppServiceAccounts, appServiceLogin } from "@greenroom/actors/account/AppServiceAccounts"
import { InteractiveAuth } from "@greenroom/actors/account/InteractiveAuth"
import { Login } from "@greenroom/actors/account/Login"
import { OAuthServer } from "@greenroom/actors/account/oauth/OAuthServer"
import { Registration } from "@greenroom/actors/account/Registration"
import { accessToken, CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import type { Login as LoginBody } from "@greenroom/protocol/client-server/LoginApi"
import type { Register } from "@greenroom/protocol/client-server/RegistrationApi"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Forbidden } from "@greenroom/protocol/MatrixError"
import { Effect, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { RateLimit } from "../RateLimit.ts"
import { addressOf } from "../TrustedProxies.ts"
import { answerInteraction } from "./Interaction.ts"

/** The device that a request names. */
export const deviceOf = (request: Pick<LoginBody, "device_id" | "initial_device_display_name" | "refresh_token">) => ({
  deviceId: request.device_id ?? undefined,
  deviceName: request.initial_device_display_name ?? undefined,
  refresh: request.refresh_token ?? false
})

/** The parameters of a registration that its session keeps. */
const keptOf = ({
  device_id,
  inhibit_login,
  initial_device_display_name,
  password,
  refresh_token,
  username
}: Register) =>
  JSON.parse(
    JSON.stringify({ device_id, inhibit_login, initial_device_display_name, password, refresh_token, username })
  ) as JsonObject

/** The user whom a login names, in the former form or in today's. */
const userOf = ({ identifier, user }: LoginBody): string | undefined => {
  const named = identifier?.user
  return user ?? (typeof named === "string" ? named : undefined)
}

export const loginHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.login", (handlers) =>
  withServices(function* () {
    const accounts = yield* Accounts
    const interactive = yield* InteractiveAuth
    const limit = yield* RateLimit
    const logins = yield* Login
    const appServices = yield* AppServiceAccounts

    return handlers
      .handle("types", () => Effect.succeed({ flows: logins.types }))
      .handle("login", ({ payload, request }) =>
        Effect.gen(function* () {
          const address = addressOf(request)
          yield* limit.takeFrom("anonymous", address)
          if (payload.type === appServiceLogin) {
            return yield* appServices.login(yield* accessToken, userOf(payload), deviceOf(payload))
          }
          const account = payload.user ?? JSON.stringify(payload.identifier ?? payload.type)
          yield* limit.takeFrom("logins", address, account)
          return yield* logins.login({ ...deviceOf(payload), body: payload as unknown as JsonObject, address })
        })
      )
      .handle("refresh", ({ payload, request }) =>
        Effect.andThen(
          limit.takeFrom("anonymous", addressOf(request)),
          Effect.map(accounts.refresh(payload.refresh_token), ({ device_id: _, ...tokens }) => tokens)
        )
      )
      .handle("getToken", ({ payload, request }) =>
        CurrentSession.use((session) =>
          answerInteraction(
            Effect.gen(function* () {
              const { finish } = yield* interactive.authorise({
                operation: "POST /login/get_token",
                session,
                auth: payload?.auth,
                address: addressOf(request),
                flows: yield* interactive.flowsOf(session)
              })
              yield* finish
              return yield* accounts.createLoginToken(session.userId, { tokenId: session.tokenId })
            })
          )
        )
      )
  })
)

export const registrationHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.registration", (handlers) =>
  withServices(function* () {
    const accounts = yield* Accounts
    const oauth = yield* OAuthServer
    const limit = yield* RateLimit
    const registration = yield* Registration
    const appServices = yield* AppServiceAccounts
    return handlers
      .handle("register", ({ payload, query, request }) =>
        answerInteraction(
          Effect.gen(function* () {
            const address = addressOf(request)
            yield* limit.takeFrom("anonymous", address)
            if (payload?.type === appServiceLogin) {
              const device = payload.inhibit_login ? undefined : deviceOf(payload)
              return yield* appServices.register(yield* accessToken, payload.username ?? undefined, device)
            }
            yield* limit.takeFrom("registrations", address)
            if (query.kind === "guest") {
              const deviceName = payload?.initial_device_display_name ?? undefined
              return yield* accounts.registerGuest({ deviceName, address })
            }
            if (oauth.mode === "on")
              return yield* new Forbidden({ error: "Register through the OAuth 2.0 API of this server" })
            const { parameters, registered } = yield* registration.begun(payload?.auth)
            const body: Register = { ...parameters, ...payload }
            return yield* registration.register({
              ...deviceOf(body),
              username: body.username ?? undefined,
              password: body.password == null ? undefined : Redacted.make(body.password),
              guestToken: body.guest_access_token ?? undefined,
              inhibitLogin: body.inhibit_login ?? false,
              auth: body.auth,
              registered,
              keep: keptOf(body),
              address
            })
          })
        )
      )
      .handle("available", ({ query, request }) =>
        limit
          .takeFrom("anonymous", addressOf(request))
          .pipe(Effect.andThen(registration.isAvailable(query.username)), Effect.as({ available: true }))
      )
      .handle("tokenValidity", ({ query, request }) =>
        limit.takeFrom("logins", addressOf(request)).pipe(
          Effect.andThen(registration.isTokenValid(Redacted.make(query.token))),
          Effect.map((valid) => ({ valid }))
        )
      )
  })
)
