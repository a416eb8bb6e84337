/**
 * Finding rooms: aliases, and the list of public rooms.
 *
 * Source: "Room structure" of the draft (room aliases).
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { RoomAlias, RoomId, ServerName } from "../Identifiers.ts"
import { PaginationFields } from "../Pagination.ts"
import { PublicRooms, ResolvedAlias } from "./Answers.ts"
import { Authentication, OptionalAuthentication } from "./Authentication.ts"
import { Done } from "./Body.ts"
import { documented } from "./Documentation.ts"

/** The room of an alias. `servers` is for aliases of rooms that live elsewhere. */
export const SetAlias = Schema.Struct({
  room_id: RoomId,
  servers: Schema.optionalKey(Schema.Array(ServerName).check(Schema.isMaxLength(100)))
}).annotate({ identifier: "SetAlias" })
export type SetAlias = typeof SetAlias.Type

const params = { alias: RoomAlias }

export class DirectoryApi extends HttpApiGroup.make("directory")
  .add(
    HttpApiEndpoint.get("publicRooms", "/publicRooms", {
      query: { from: PaginationFields.from, limit: PaginationFields.limit },
      success: PublicRooms
    }).annotateMerge(
      documented({
        summary: "The public rooms of this server",
        text:
          "The rooms with the most members first, from `START` on if `from` is absent. Use `end` of the answer as the " +
          "next `from`; after the last page it is `END`. Errors: M_BAD_PAGINATION.",
        who: "anyone"
      })
    ),
    HttpApiEndpoint.get("resolveAlias", "/directory/room/:alias", { params, success: ResolvedAlias })
      .middleware(OptionalAuthentication)
      .annotateMerge(
        documented({
          summary: "The room of an alias",
          text: "An alias of another server is resolved there, for callers with an access token. Errors: M_NOT_FOUND.",
          who: "anyone"
        })
      ),
    HttpApiEndpoint.put("setAlias", "/directory/room/:alias", { params, payload: SetAlias, success: Done })
      .middleware(Authentication)
      .annotateMerge(
        documented({
          summary: "Give a room an alias",
          text: "Aliases of this server only. Errors: M_ROOM_IN_USE, M_FORBIDDEN.",
          who: "members of the room"
        })
      ),
    HttpApiEndpoint.delete("removeAlias", "/directory/room/:alias", { params, success: Done })
      .middleware(Authentication)
      .annotateMerge(
        documented({
          summary: "Remove an alias",
          text: "Errors: M_NOT_FOUND, M_FORBIDDEN, M_EXCLUSIVE in the namespace of an application service.",
          who: "its creator, and members who may send m.room.aliases, or m.room.canonical_alias in rooms of today's versions"
        })
      )
  )
  .annotateMerge(OpenApi.annotations({ title: "Directory", description: "Finding rooms." })) {}
