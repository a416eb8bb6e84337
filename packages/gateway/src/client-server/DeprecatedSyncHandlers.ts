/**
 * The event stream and the initial sync that `/sync` has replaced, as calls of `DeprecatedSync`.
 *
 * Source: "GET /events" and "GET /initialSync" of the client-server specification.
 */
import { DeprecatedSync } from "@greenroom/actors/sync/DeprecatedSync"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { Effect } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { LongPolls } from "./LongPolls.ts"

export const deprecatedSyncHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.deprecatedSync", (handlers) =>
  withServices(function* () {
    const sync = yield* DeprecatedSync
    const longPolls = yield* LongPolls

    return handlers
      .handle(
        "events",
        ({ query: { from, room_id, timeout = 0 } }) =>
          CurrentSession.use((session) =>
            Effect.map(
              longPolls.poll({ session, timeout, setPresence: undefined }, (timeout) =>
                room_id === undefined
                  ? sync.events(session, { from, timeout })
                  : sync.roomEvents(session, room_id, { from, timeout })
              ),
              (answer) => HttpServerResponse.jsonUnsafe(answer)
            )
          ),
        { uninterruptible: true }
      )
      .handle("event", ({ params }) => CurrentSession.use((session) => sync.event(session, params.eventId)))
      .handle("initialSync", ({ query }) =>
        CurrentSession.use((session) =>
          Effect.map(sync.initialSync(session, { limit: query.limit, archived: query.archived === "true" }), (answer) =>
            HttpServerResponse.jsonUnsafe(answer)
          )
        )
      )
      .handle("roomInitialSync", ({ params, query }) =>
        CurrentSession.use((session) =>
          Effect.map(sync.roomInitialSync(session, params.roomId, query.limit), (answer) =>
            HttpServerResponse.jsonUnsafe(answer)
          )
        )
      )
  })
)
