/**
 * Room aliases.
 *
 * Source: "Room aliases" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication, OptionalAuthentication } from "../api/Authentication.ts"
import { body, Done } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { RoomAlias, RoomId, ServerName } from "../Identifiers.ts"

const alias = { alias: RoomAlias }

export class DirectoryApi extends HttpApiGroup.make("clientServer.directory")
  .add(
    HttpApiEndpoint.get("resolve", "/v3/directory/room/:alias", {
      params: alias,
      success: body(Schema.Struct({ room_id: RoomId, servers: Schema.Array(ServerName) }))
    })
      .middleware(OptionalAuthentication)
      .annotateMerge(
        documented({
          summary: "The room of an alias",
          text: "Errors: M_NOT_FOUND.",
          who: "anyone"
        })
      ),
    HttpApiEndpoint.put("create", "/v3/directory/room/:alias", {
      params: alias,
      payload: Schema.Struct({ room_id: RoomId }),
      success: Done
    })
      .middleware(Authentication)
      .annotateMerge(
        documented({
          summary: "Give a room an alias",
          text: "Errors: 409 M_UNKNOWN for a taken one.",
          who: "members of the room"
        })
      ),
    HttpApiEndpoint.delete("remove", "/v3/directory/room/:alias", { params: alias, success: Done })
      .middleware(Authentication)
      .annotateMerge(
        documented({
          summary: "Remove an alias",
          text: "Errors: M_NOT_FOUND, M_FORBIDDEN, M_EXCLUSIVE in the namespace of an application service.",
          who: "its creator, members with the power level of state events, the application service of its namespace"
        })
      ),
    HttpApiEndpoint.get("aliases", "/v3/rooms/:roomId/aliases", {
      params: { roomId: RoomId },
      success: body(Schema.Struct({ aliases: Schema.Array(RoomAlias) }))
    })
      .middleware(Authentication)
      .annotateMerge(
        documented({
          summary: "The aliases of a room on this server",
          who: "members, and anybody where the history is world-readable"
        })
      )
  )
  .annotateMerge(OpenApi.annotations({ title: "Room aliases" })) {}
