/**
 * Login and logout, as calls of `Stages` and `Accounts`.
 *
 * Source: "Registration and login" of the draft.
 */
import { Accounts } from "@greenroom/actors/account/Accounts"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { BadJson } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { RateLimit } from "../RateLimit.ts"
import { Sockets } from "../socket/Sockets.ts"
import { addressOf } from "../TrustedProxies.ts"
import { withServices } from "./EndpointServices.ts"
import { makeStages } from "./Stages.ts"

export const loginHandlers = HttpApiBuilder.group(ClientApi, "login", (handlers) =>
  withServices(function* () {
    const accounts = yield* Accounts
    const limit = yield* RateLimit
    const sockets = yield* Sockets
    const stages = yield* makeStages("login")
    return handlers
      .handle("flows", () => stages.flows)
      .handle("login", ({ payload, request }) =>
        Effect.gen(function* () {
          if (typeof payload.type !== "string") return yield* new BadJson({ error: "type: missing key" })
          const address = addressOf(request)
          yield* limit.takeFrom("anonymous", address)
          yield* limit.takeFrom("logins", address, payload.user ?? payload.user_id ?? payload.session ?? "")
          return yield* stages.post(payload, address)
        })
      )
      .handle("fallback", () => stages.page)
      .handle("logout", () =>
        CurrentSession.use((session) =>
          Effect.as(Effect.andThen(accounts.logout(session), sockets.closeToken(session.tokenId)), done)
        )
      )
      .handle("logoutAll", () =>
        CurrentSession.use((session) =>
          Effect.as(Effect.andThen(accounts.logoutAll(session), sockets.closeUser(session.userId)), done)
        )
      )
      .handle("logoutOthers", () =>
        CurrentSession.use((session) =>
          Effect.flatMap(accounts.logoutOthers(session), (ended) =>
            Effect.as(Effect.forEach(ended, sockets.closeToken, { discard: true }), done)
          )
        )
      )
  })
)
