/**
 * Registration, as calls of `Accounts`.
 *
 * Source: "Registration and login" of the specification.
 */
import { Accounts } from "@greenroom/actors/Accounts"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import type { LoginStage } from "@greenroom/protocol/api/LoginFlow"
import { BadJson } from "@greenroom/protocol/MatrixError"
import { Effect, Redacted } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { RateLimit } from "../RateLimit.ts"
import { Sockets } from "../socket/Sockets.ts"
import { addressOf } from "./Authentication.ts"
import { passwordFlows, requirePasswordStage } from "./PasswordStage.ts"

/** A stage with a type needs a password; the earliest form of a registration, without a type, does not. */
const checkStage = (stage: LoginStage) =>
  stage.type === undefined
    ? Effect.void
    : Effect.andThen(
        requirePasswordStage(stage.type),
        stage.password === undefined ? Effect.fail(new BadJson({ error: "password: missing key" })) : Effect.void
      )

export const registrationHandlers = HttpApiBuilder.group(ClientApi, "registration", (handlers) =>
  Effect.gen(function* () {
    const accounts = yield* Accounts
    const limit = yield* RateLimit
    const sockets = yield* Sockets
    return handlers
      .handle("flows", () => Effect.succeed(passwordFlows))
      .handle("register", ({ payload, request }) =>
        Effect.gen(function* () {
          yield* limit.take("registrations", addressOf(request))
          yield* checkStage(payload)
          const localpart = payload.user ?? payload.user_id
          return yield* accounts.register({
            ...(localpart === undefined ? {} : { localpart }),
            ...(payload.password === undefined ? {} : { password: Redacted.make(payload.password) }),
            ...(payload.device_name === undefined ? {} : { deviceName: payload.device_name })
          })
        })
      )
      .handle("unregister", () =>
        CurrentSession.use((session) =>
          Effect.as(Effect.andThen(accounts.unregister(session), sockets.closeUser(session.userId)), done)
        )
      )
  })
)
