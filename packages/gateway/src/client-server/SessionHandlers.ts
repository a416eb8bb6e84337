/**
 * Logout and `whoami`, as calls of `Accounts`.
 *
 * Source: "Legacy authentication" of the client-server specification.
 */
import { Accounts } from "@greenroom/actors/account/Accounts"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"

export const sessionHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.session", (handlers) =>
  withServices(function* () {
    const accounts = yield* Accounts
    return handlers
      .handle("whoami", () =>
        CurrentSession.useSync(({ deviceId, guest = false, userId }) => ({
          user_id: userId,
          device_id: deviceId,
          is_guest: guest
        }))
      )
      .handle("logout", () => CurrentSession.use((session) => Effect.as(accounts.logout(session), done)))
      .handle("logoutAll", () => CurrentSession.use((session) => Effect.as(accounts.logoutAll(session), done)))
  })
)
