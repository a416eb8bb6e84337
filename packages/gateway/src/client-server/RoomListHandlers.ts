/**
 * The list of public rooms, summaries and spaces, as calls of `RoomSummaries`.
 *
 * Source: "Published room directory", "Room Summaries" and "Spaces" of the client-server specification.
 */
import type { PublicRooms, PublicRoomsRequest } from "@greenroom/actors/room/PublicRooms"
import { RoomSummaries } from "@greenroom/actors/room/RoomSummaries"
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import type { Session } from "@greenroom/actors/runtime/Session"
import { CurrentSession, CurrentViewer } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import type { SpaceRoom } from "@greenroom/protocol/client-server/RoomListApi"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { MissingToken } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { namedServers } from "./NamedServers.ts"

export const roomListHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.roomList", (handlers) =>
  withServices(function* () {
    const { serverName } = yield* HomeServerConfig
    const summaries = yield* RoomSummaries

    // Some clients refuse rooms with more keys than `PublishedRoomsChunk` has.
    const toClient = ({ chunk, ...page }: PublicRooms) => ({
      ...page,
      chunk: chunk.map(({ allowed_room_ids: _, encryption: __, room_version: ___, ...room }) => ({ ...room }))
    })

    /** Lists of other servers are requested only for users of this server. */
    const list = (viewer: Session | undefined, server: ServerName = serverName, request: PublicRoomsRequest) =>
      viewer === undefined && server !== serverName
        ? Effect.fail(new MissingToken({ error: "An access token is needed for the list of another server" }))
        : Effect.map(summaries.publicRoomsOf(server, request), toClient)

    return handlers
      .handle("list", ({ query }) =>
        CurrentViewer.use((viewer) => list(viewer, query.server, { limit: query.limit, since: query.since }))
      )
      .handle("search", ({ payload, query }) =>
        CurrentSession.use((session) =>
          list(session, query.server, {
            limit: payload?.limit ?? undefined,
            since: payload?.since ?? undefined,
            search: payload?.filter?.generic_search_term || undefined,
            types: payload?.filter?.room_types ?? undefined,
            allNetworks: payload?.include_all_networks ?? undefined,
            network: payload?.third_party_instance_id || undefined
          })
        )
      )
      .handle("visibility", ({ params }) =>
        CurrentViewer.use((viewer) =>
          Effect.map(summaries.isListed(viewer?.userId, params.roomId), (listed) => ({
            visibility: listed ? ("public" as const) : ("private" as const)
          }))
        )
      )
      .handle("setVisibility", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.as(summaries.setListed(session, params.roomId, (payload?.visibility ?? "public") === "public"), done)
        )
      )
      .handle("setListedIn", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.as(
            summaries.setListedIn(session, params.networkId, params.roomId, payload.visibility === "public"),
            done
          )
        )
      )
      .handle("unlistIn", ({ params }) =>
        CurrentSession.use((session) =>
          Effect.as(summaries.setListedIn(session, params.networkId, params.roomId, false), done)
        )
      )
      .handle("summary", ({ params }) =>
        CurrentViewer.use((viewer) =>
          namedServers.pipe(Effect.flatMap((via) => summaries.summary(viewer, params.roomIdOrAlias, via)))
        )
      )
      .handle("hierarchy", ({ params, query }) =>
        CurrentSession.use((session) =>
          Effect.map(
            summaries.hierarchy(session, params.roomId, {
              suggestedOnly: query.suggested_only === "true",
              maxDepth: query.max_depth,
              limit: query.limit,
              from: query.from
            }),
            ({ rooms, ...rest }) => ({ ...rest, rooms: rooms as unknown as ReadonlyArray<SpaceRoom> })
          )
        )
      )
  })
)
