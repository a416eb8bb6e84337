/**
 * Room aliases, as calls of `Rooms`.
 *
 * Source: "Room aliases" of the client-server specification.
 */
import { Moderation } from "@greenroom/actors/account/Moderation"
import { dropCanonicalAlias } from "@greenroom/actors/room/CanonicalAliases"
import { RoomReader } from "@greenroom/actors/room/RoomReader"
import { Rooms } from "@greenroom/actors/room/Rooms"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { Effect, Option } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { makeAsAdmin } from "../admin/AdminAction.ts"
import { withServices } from "../client-api/EndpointServices.ts"

/** The status is 409 in today's API, M_ROOM_IN_USE in the draft's. */
const aliasTaken = (error: string) => HttpServerResponse.jsonUnsafe({ errcode: "M_UNKNOWN", error }, { status: 409 })

export const directoryHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.directory", (handlers) =>
  withServices(function* () {
    const rooms = yield* Rooms
    const reader = yield* RoomReader
    const moderation = yield* Moderation
    const asAdmin = yield* makeAsAdmin
    return handlers
      .handle("resolve", ({ params }) => rooms.resolveAlias(params.alias))
      .handle("create", ({ params, payload }) =>
        CurrentSession.use((session) =>
          rooms.setAlias(session, params.alias, payload.room_id).pipe(
            Effect.map((isNew) => (isNew ? done : aliasTaken(`${params.alias} names this room already`))),
            Effect.catchTag("M_ROOM_IN_USE", ({ error }) => Effect.succeed(aliasTaken(error)))
          )
        )
      )
      .handle("remove", ({ params }) =>
        CurrentSession.use((session) =>
          Effect.gen(function* () {
            const found = yield* Effect.option(rooms.resolveAlias(params.alias))
            yield* rooms.removeAlias(session, params.alias)
            if (Option.isSome(found)) yield* dropCanonicalAlias(rooms, session, found.value.room_id, params.alias)
            return done
          })
        )
      )
      .handle("aliases", ({ params }) =>
        CurrentSession.use((session) =>
          reader.aliases(session, params.roomId).pipe(
            // Administrators read the aliases of every room, as the tools of Synapse expect.
            Effect.catchTag("M_FORBIDDEN", (error) =>
              Effect.flatMap(moderation.isAdmin(session), (isAdmin) =>
                isAdmin
                  ? asAdmin({ action: "room.aliases", target: params.roomId }, () => reader.localAliases(params.roomId))
                  : Effect.fail(error)
              )
            ),
            Effect.map((aliases) => ({ aliases }))
          )
        )
      )
  })
)
