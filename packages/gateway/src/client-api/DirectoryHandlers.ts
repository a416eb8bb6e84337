/**
 * Finding rooms, as calls of `Rooms`.
 *
 * Source: "Room structure" of the draft (room aliases).
 */
import { Rooms } from "@greenroom/actors/room/Rooms"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { RateLimit } from "../RateLimit.ts"
import { addressOf } from "../TrustedProxies.ts"
import { withServices } from "./EndpointServices.ts"
import { pagination } from "./Paging.ts"

export const directoryHandlers = HttpApiBuilder.group(ClientApi, "directory", (handlers) =>
  withServices(function* () {
    const rooms = yield* Rooms
    const limit = yield* RateLimit
    return handlers
      .handle("publicRooms", ({ query, request }) =>
        limit.takeFrom("anonymous", addressOf(request)).pipe(
          Effect.andThen(pagination(query)),
          Effect.flatMap(({ from, limit }) => rooms.publicRooms({ from, limit }))
        )
      )
      .handle("resolveAlias", ({ params }) => rooms.resolveAlias(params.alias))
      .handle("setAlias", ({ params, payload }) =>
        CurrentSession.use((session) =>
          Effect.as(rooms.setAlias(session, params.alias, payload.room_id, payload.servers), done)
        )
      )
      .handle("removeAlias", ({ params }) =>
        CurrentSession.use((session) => Effect.as(rooms.removeAlias(session, params.alias), done))
      )
  })
)
