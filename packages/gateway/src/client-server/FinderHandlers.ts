/**
 * Finding, forgetting and reporting, as calls of `RoomFinder`.
 *
 * Source: "User Directory", "Leaving rooms" and "Reporting Content" of the client-server specification.
 */
import { RoomFinder } from "@greenroom/actors/room/RoomFinder"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"

export const finderHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.finder", (handlers) =>
  withServices(function* () {
    const finder = yield* RoomFinder

    const report = (
      subject: { readonly roomId?: RoomId; readonly eventId?: EventId; readonly userId?: UserId },
      payload: { readonly reason?: string | null } | undefined
    ) => CurrentSession.use((session) => Effect.as(finder.report(session, subject, payload?.reason ?? ""), done))

    return handlers
      .handle("users", ({ payload }) =>
        CurrentSession.use((session) =>
          Effect.map(finder.findUsers(session, payload.search_term, payload.limit), ({ limited, results }) => ({
            limited,
            results: results.map(({ avatarUrl, displayname, userId }) => ({
              user_id: userId,
              ...(displayname === undefined ? {} : { display_name: displayname }),
              ...(avatarUrl === undefined ? {} : { avatar_url: avatarUrl })
            }))
          }))
        )
      )
      .handle("mutualRooms", ({ query }) =>
        CurrentSession.use((session) => finder.mutualRooms(session, query.user_id, query.from))
      )
      .handle("eventAt", ({ params, query }) =>
        CurrentSession.use((session) => finder.eventAt(session, params.roomId, query.ts, query.dir))
      )
      .handle("forget", ({ params }) =>
        CurrentSession.use((session) => Effect.as(finder.forget(session, params.roomId), done))
      )
      .handle("reportEvent", ({ params, payload }) => report(params, payload))
      .handle("reportRoom", ({ params, payload }) => report(params, payload))
      .handle("reportUser", ({ params, payload }) => report(params, payload))
  })
)
