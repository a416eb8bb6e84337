/**
 * Login and logout, as calls of `Accounts`.
 *
 * Source: "Registration and login" of the specification.
 */
import { Accounts } from "@greenroom/actors/Accounts"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { BadJson } from "@greenroom/protocol/MatrixError"
import { Effect, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { RateLimit } from "../RateLimit.ts"
import { Sockets } from "../socket/Sockets.ts"
import { addressOf } from "./Authentication.ts"
import { loginFallback } from "./LoginFallback.ts"
import { passwordFlows, requirePasswordStage } from "./PasswordStage.ts"

const required = (key: string, value: string | undefined): Effect.Effect<string, BadJson> =>
  value === undefined ? Effect.fail(new BadJson({ error: `${key}: missing key` })) : Effect.succeed(value)

export const loginHandlers = HttpApiBuilder.group(ClientApi, "login", (handlers) =>
  Effect.gen(function* () {
    const accounts = yield* Accounts
    const limit = yield* RateLimit
    const sockets = yield* Sockets
    return handlers
      .handle("flows", () => Effect.succeed(passwordFlows))
      .handle("login", ({ payload, request }) =>
        Effect.gen(function* () {
          yield* requirePasswordStage(yield* required("type", payload.type))
          const user = yield* required("user", payload.user ?? payload.user_id)
          const password = yield* required("password", payload.password)
          yield* limit.take("anonymous", addressOf(request))
          yield* limit.take("logins", `${addressOf(request)} ${user}`)
          return yield* accounts.login({
            user,
            password: Redacted.make(password),
            ...(payload.device_name === undefined ? {} : { deviceName: payload.device_name })
          })
        })
      )
      .handle("fallback", () => Effect.succeed(loginFallback))
      .handle("logout", () =>
        CurrentSession.use((session) =>
          Effect.as(Effect.andThen(accounts.logout(session), sockets.closeToken(session.tokenId)), done)
        )
      )
  })
)
