/**
 * Pushers and notifications, as calls of the services of the same names.
 *
 * Source: "Push notifications" of the client-server specification.
 */
import { Notifications } from "@greenroom/actors/user/push/Notifications"
import { Pushers } from "@greenroom/actors/user/push/Pushers"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { Effect } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"

export const pushersHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.pushers", (handlers) =>
  withServices(function* () {
    const pushers = yield* Pushers
    const notifications = yield* Notifications
    return handlers
      .handle("list", () =>
        CurrentSession.use((session) => Effect.map(pushers.list(session), (list) => ({ pushers: list })))
      )
      .handle("set", ({ payload }) =>
        CurrentSession.use((session) => {
          // What is null counts as absent, but for the kind.
          const { app_id, kind, pushkey, ...rest } = payload
          const given = Object.fromEntries(Object.entries(rest).filter(([, value]) => value !== null))
          return Effect.as(pushers.set(session, { app_id, kind, pushkey, ...given }), done)
        })
      )
      .handle("notifications", ({ query: { from, limit, only } }) =>
        CurrentSession.use((session) =>
          Effect.map(notifications.list(session, { from, limit, onlyHighlights: only === "highlight" }), (page) =>
            HttpServerResponse.jsonUnsafe(page)
          )
        )
      )
  })
)
