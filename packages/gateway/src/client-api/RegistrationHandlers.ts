/**
 * Registration, as calls of `LoginFlows` and `Accounts`.
 *
 * Source: "Registration and login" of the specification.
 */
import { Accounts } from "@greenroom/actors/Accounts"
import { HomeServerConfig } from "@greenroom/actors/HomeServerConfig"
import { LoginFlows } from "@greenroom/actors/login/LoginFlows"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { PublicUrl } from "../PublicUrl.ts"
import { fallbackPage } from "../pages/FallbackPage.ts"
import { RateLimit } from "../RateLimit.ts"
import { Sockets } from "../socket/Sockets.ts"
import { addressOf } from "./Authentication.ts"
import { withBrowserSecret } from "./BrowserSecret.ts"

export const registrationHandlers = HttpApiBuilder.group(ClientApi, "registration", (handlers) =>
  Effect.gen(function* () {
    const { login, serverName } = yield* HomeServerConfig
    const accounts = yield* Accounts
    const flows = yield* LoginFlows
    const limit = yield* RateLimit
    const sockets = yield* Sockets
    const publicUrl = yield* PublicUrl
    const page = fallbackPage({ purpose: "registration", serverName, minPasswordLength: login?.minPasswordLength })
    return handlers
      .handle("flows", () => flows.flows("registration"))
      .handle("register", ({ payload, request }) =>
        Effect.gen(function* () {
          const address = addressOf(request)
          yield* limit.take("registrations", address)
          const url = publicUrl.get()
          const answer = yield* flows.post({ purpose: "registration", body: payload, address, publicUrl: url })
          return withBrowserSecret(answer, url)
        })
      )
      .handle("fallback", () => Effect.succeed(page))
      .handle("unregister", () =>
        CurrentSession.use((session) =>
          Effect.as(Effect.andThen(accounts.unregister(session), sockets.closeUser(session.userId)), done)
        )
      )
  })
)
