/**
 * The list of public rooms, summaries of rooms, and spaces.
 *
 * Source: "Published room directory", "Room Summaries" and "Spaces" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication, OptionalAuthentication, ReadOnly } from "../api/Authentication.ts"
import { Absent, body, Done } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText, RoomIdOrAlias } from "../api/Parameters.ts"
import { RoomId, ServerName } from "../Identifiers.ts"
import { Count, QueryToken, Token } from "./RoomsApi.ts"
import { SimpleEvent } from "./SyncAnswer.ts"

const Visibility = Schema.Literals(["public", "private"])
const listed = {
  room_id: RoomId,
  num_joined_members: Schema.Int,
  world_readable: Schema.Boolean,
  guest_can_join: Schema.Boolean,
  name: Schema.optionalKey(Schema.String),
  topic: Schema.optionalKey(Schema.String),
  canonical_alias: Schema.optionalKey(Schema.String),
  avatar_url: Schema.optionalKey(Schema.String),
  join_rule: Schema.optionalKey(Schema.String),
  room_type: Schema.optionalKey(Schema.String)
}
const PublicRoom = Schema.Struct(listed).annotate({ identifier: "PublicRoom" })
const summed = {
  ...listed,
  allowed_room_ids: Schema.optionalKey(Schema.Array(RoomId)),
  encryption: Schema.optionalKey(Schema.String),
  room_version: Schema.optionalKey(Schema.String)
}
const Summary = body(
  Schema.Struct({ ...summed, membership: Schema.optionalKey(Schema.String) }).annotate({ identifier: "RoomSummary" })
)
const SpaceRoom = Schema.Struct({
  ...summed,
  children_state: Schema.Array(Schema.Struct({ ...SimpleEvent.fields, origin_server_ts: Schema.Int }))
}).annotate({ identifier: "SpaceRoom" })
/** A room in the hierarchy of a space. */
export type SpaceRoom = typeof SpaceRoom.Type
const Page = body(
  Schema.Struct({
    chunk: Schema.Array(PublicRoom),
    next_batch: Schema.optionalKey(Schema.String),
    prev_batch: Schema.optionalKey(Schema.String),
    total_room_count_estimate: Schema.optionalKey(Schema.Int)
  }).annotate({ identifier: "PublicRoomsPage" })
)
const Limit = Schema.Number.check(Schema.isInt({ expected: "an integer" }), Schema.isGreaterThanOrEqualTo(0))

export class RoomListApi extends HttpApiGroup.make("clientServer.roomList")
  .add(
    HttpApiEndpoint.get("list", "/v3/publicRooms", {
      query: {
        limit: Schema.optional(Count),
        since: QueryToken,
        server: Schema.optional(ServerName)
      },
      success: Page
    })
      .middleware(OptionalAuthentication)
      .annotateMerge(
        documented({
          summary: "Public rooms, the largest first",
          text: "With `server` the rooms of another server. Errors: M_NOT_FOUND if that server cannot be reached.",
          who: "anyone; any user where another server is asked"
        })
      ),
    HttpApiEndpoint.post("search", "/v3/publicRooms", {
      query: { server: Schema.optional(ServerName) },
      payload: [
        Schema.Struct({
          limit: Schema.optionalKey(Schema.NullOr(Limit)),
          since: Schema.optionalKey(Schema.NullOr(Token)),
          filter: Schema.optionalKey(
            Schema.NullOr(
              Schema.Struct({
                generic_search_term: Schema.optionalKey(Schema.NullOr(boundedText(255))),
                room_types: Schema.optionalKey(
                  Schema.NullOr(Schema.Array(Schema.NullOr(boundedText(255))).check(Schema.isMaxLength(50)))
                )
              })
            )
          ),
          include_all_networks: Schema.optionalKey(Schema.NullOr(Schema.Boolean)),
          third_party_instance_id: Schema.optionalKey(Schema.NullOr(boundedText(255)))
        }),
        Absent
      ],
      success: Page
    })
      .middleware(Authentication)
      .annotate(ReadOnly, true)
      .annotateMerge(documented({ summary: "Search public rooms", who: "any user" })),
    HttpApiEndpoint.get("visibility", "/v3/directory/list/room/:roomId", {
      params: { roomId: RoomId },
      success: body(Schema.Struct({ visibility: Visibility }))
    })
      .middleware(OptionalAuthentication)
      .annotateMerge(
        documented({
          summary: "Is the room listed?",
          text: "M_NOT_FOUND also for a room that is not listed, and that one may not know of.",
          who: "anyone"
        })
      ),
    HttpApiEndpoint.put("setVisibility", "/v3/directory/list/room/:roomId", {
      params: { roomId: RoomId },
      payload: [Schema.Struct({ visibility: Schema.optionalKey(Visibility) }), Absent],
      success: Done
    })
      .middleware(Authentication)
      .annotateMerge(
        documented({
          summary: "Add a room to the list, or remove it",
          who: "members with the power level of m.room.canonical_alias"
        })
      ),
    HttpApiEndpoint.put("setListedIn", "/v3/directory/list/appservice/:networkId/:roomId", {
      params: { networkId: boundedText(255), roomId: RoomId },
      payload: Schema.Struct({ visibility: Visibility }),
      success: Done
    })
      .middleware(Authentication)
      .annotateMerge(
        documented({
          summary: "Add a room to the list of a network of an application service, or remove it",
          text: "Errors: M_FORBIDDEN, M_NOT_FOUND.",
          who: "application services"
        })
      ),
    HttpApiEndpoint.delete("unlistIn", "/v3/directory/list/appservice/:networkId/:roomId", {
      params: { networkId: boundedText(255), roomId: RoomId },
      success: Done
    })
      .middleware(Authentication)
      .annotateMerge(
        documented({
          summary: "Remove a room from the list of a network of an application service",
          text: "Not in the specification; the same as to list it as private. Errors: M_FORBIDDEN, M_NOT_FOUND.",
          who: "application services"
        })
      ),
    HttpApiEndpoint.get("summary", "/v1/room_summary/:roomIdOrAlias", {
      params: { roomIdOrAlias: RoomIdOrAlias },
      success: Summary
    })
      .middleware(OptionalAuthentication)
      .annotateMerge(
        documented({
          summary: "The summary of a room",
          text: "A room that this server lacks is requested from the servers in `via`, for callers with an access token. Errors: M_NOT_FOUND.",
          who: "users who are in the room, may join it or may read it; anyone, where it is open to all"
        })
      ),
    HttpApiEndpoint.get("hierarchy", "/v1/rooms/:roomId/hierarchy", {
      params: { roomId: RoomId },
      query: {
        suggested_only: Schema.optional(Schema.Literals(["true", "false"])),
        limit: Schema.optional(Count),
        max_depth: Schema.optional(Count),
        from: QueryToken
      },
      success: body(Schema.Struct({ rooms: Schema.Array(SpaceRoom), next_batch: Schema.optionalKey(Schema.String) }))
    })
      .middleware(Authentication)
      .annotateMerge(
        documented({
          summary: "The rooms of a space",
          text: "Errors: M_FORBIDDEN.",
          who: "users who may know the room"
        })
      )
  )
  .annotateMerge(OpenApi.annotations({ title: "Room list and spaces" })) {}
