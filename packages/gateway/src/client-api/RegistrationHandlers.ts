/**
 * Registration, as calls of `Stages` and `Accounts`.
 *
 * Source: "Registration and login" of the draft.
 */
import { Accounts } from "@greenroom/actors/account/Accounts"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { RateLimit } from "../RateLimit.ts"
import { Sockets } from "../socket/Sockets.ts"
import { addressOf } from "../TrustedProxies.ts"
import { withServices } from "./EndpointServices.ts"
import { makeStages } from "./Stages.ts"

export const registrationHandlers = HttpApiBuilder.group(ClientApi, "registration", (handlers) =>
  withServices(function* () {
    const accounts = yield* Accounts
    const limit = yield* RateLimit
    const sockets = yield* Sockets
    const stages = yield* makeStages("registration")
    return handlers
      .handle("flows", () => stages.flows)
      .handle("register", ({ payload, request }) =>
        Effect.gen(function* () {
          const address = addressOf(request)
          yield* limit.takeFrom("registrations", address)
          return yield* stages.post(payload, address)
        })
      )
      .handle("fallback", () => stages.page)
      .handle("unregister", () =>
        CurrentSession.use((session) =>
          Effect.as(Effect.andThen(accounts.unregister(session), sockets.closeUser(session.userId)), done)
        )
      )
  })
)
