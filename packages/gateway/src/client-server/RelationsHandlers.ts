/**
 * Relations between events and threads, as calls of `Relations`.
 *
 * Source: "Relationships API" and "Threading" of the client-server specification.
 */
import { Relations, type RelationsRequest } from "@greenroom/actors/room/Relations"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import type { EventId, RoomId } from "@greenroom/protocol/Identifiers"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"

interface Query extends Omit<RelationsRequest, "recurse"> {
  readonly recurse?: "true" | "false" | undefined
  /** The older name, which matrix-js-sdk sent until 2025. */
  readonly "org.matrix.msc3981.recurse"?: "true" | "false" | undefined
}

export const relationsHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.relations", (handlers) =>
  withServices(function* () {
    const relations = yield* Relations

    const related = (
      {
        eventId,
        eventType,
        relType,
        roomId
      }: { roomId: RoomId; eventId: EventId; relType?: string; eventType?: string },
      { "org.matrix.msc3981.recurse": unstableRecurse, recurse = unstableRecurse, ...query }: Query
    ) =>
      CurrentSession.use((session) =>
        relations.related(session, roomId, eventId, { ...query, relType, eventType, recurse: recurse === "true" })
      )

    return handlers
      .handle("all", ({ params, query }) => related(params, query))
      .handle("ofRelType", ({ params, query }) => related(params, query))
      .handle("ofEventType", ({ params, query }) => related(params, query))
      .handle("threads", ({ params, query }) =>
        CurrentSession.use((session) =>
          relations.threads(session, params.roomId, {
            participated: query.include === "participated",
            from: query.from,
            limit: query.limit
          })
        )
      )
  })
)
