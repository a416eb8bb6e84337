/**
 * Search, as a call of `Search`.
 *
 * Source: "Server Side Search" of the client-server specification.
 */
import { Search } from "@greenroom/actors/room/Search"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { Effect } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"

export const searchHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.search", (handlers) =>
  withServices(function* () {
    const { search } = yield* Search
    return handlers.handle("search", ({ payload, query }) =>
      CurrentSession.use((session) => {
        const wanted = payload.search_categories.room_events
        if (wanted == null) return Effect.succeed(HttpServerResponse.jsonUnsafe({ search_categories: {} }))
        const group_by = (wanted.groupings?.group_by ?? []).map(({ key }) => key)
        return Effect.map(search(session, { ...wanted, group_by, next_batch: query.next_batch }), (room_events) =>
          HttpServerResponse.jsonUnsafe({ search_categories: { room_events } })
        )
      })
    )
  })
)
