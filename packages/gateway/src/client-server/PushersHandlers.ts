/**
 * Pushers and notifications, as calls of the services of the same names.
 *
 * Source: "Push notifications" of the client-server specification.
 */
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { Notifications } from "@greenroom/actors/user/push/Notifications"
import { Pushers } from "@greenroom/actors/user/push/Pushers"
import { unsubscribePath } from "@greenroom/actors/user/push/Unsubscription"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import type { NotFound } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { type HttpServerRequest, HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { unknownSubscriptionPage, unsubscribedPage, unsubscribePage } from "../pages/UnsubscribePage.ts"
import { RateLimit } from "../RateLimit.ts"
import { addressOf } from "../TrustedProxies.ts"

export const pushersHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.pushers", (handlers) =>
  withServices(function* () {
    const pushers = yield* Pushers
    const notifications = yield* Notifications
    return handlers
      .handle("list", () =>
        CurrentSession.use((session) =>
          Effect.map(pushers.list(session), (list) => HttpServerResponse.jsonUnsafe({ pushers: list }))
        )
      )
      .handle("set", ({ payload }) =>
        CurrentSession.use((session) => {
          // A null counts as absent, except for the kind.
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

export const unsubscribeHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.unsubscribe", (handlers) =>
  withServices(function* () {
    const { serverName } = yield* HomeServerConfig
    const pushers = yield* Pushers
    const limit = yield* RateLimit

    const asPage = <A>(
      request: HttpServerRequest.HttpServerRequest,
      found: Effect.Effect<A, NotFound>,
      toPage: (value: A) => HttpServerResponse.HttpServerResponse
    ) =>
      Effect.andThen(
        limit.takeFrom("anonymous", addressOf(request)),
        Effect.match(found, { onSuccess: toPage, onFailure: () => unknownSubscriptionPage })
      )

    return handlers
      .handle("link", ({ query: { token = "" }, request }) =>
        asPage(request, pushers.subscription(token), (subscription) =>
          unsubscribePage(subscription, `${unsubscribePath}?${new URLSearchParams({ token })}`, serverName)
        )
      )
      .handle("end", ({ query: { token = "" }, request }) =>
        asPage(request, pushers.unsubscribe(token), () => unsubscribedPage)
      )
  })
)
