/**
 * Finding users, shared rooms and moments; forgetting rooms; reports.
 *
 * Source: "User Directory", "Leaving rooms", "Reporting Content" and "Getting events for a room" of the client-server
 * specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication, ReadOnly } from "../api/Authentication.ts"
import { Absent, body, Done, OptionalObject } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText } from "../api/Parameters.ts"
import { EventId, RoomId, UserId } from "../Identifiers.ts"
import { Count, QueryToken } from "./RoomsApi.ts"

const Reason = Schema.Struct({
  reason: Schema.optionalKey(Schema.NullOr(Schema.String)),
  score: Schema.optionalKey(Schema.Unknown)
})
const reportPayload = [Reason, Absent] as const

export class FinderApi extends HttpApiGroup.make("clientServer.finder")
  .add(
    HttpApiEndpoint.post("users", "/v3/user_directory/search", {
      payload: Schema.Struct({
        search_term: boundedText(255),
        limit: Schema.optionalKey(Schema.Number.check(Schema.isInt({ expected: "an integer" })))
      }),
      success: body(
        Schema.Struct({
          results: Schema.Array(
            Schema.Struct({
              user_id: UserId,
              display_name: Schema.optionalKey(Schema.String),
              avatar_url: Schema.optionalKey(Schema.String)
            })
          ),
          limited: Schema.Boolean
        })
      )
    })
      .annotate(ReadOnly, true)
      .annotateMerge(documented({ summary: "Find users who share a room, or are in a public one", who: "any user" })),
    HttpApiEndpoint.get("mutualRooms", "/v1/mutual_rooms", {
      query: { user_id: UserId, from: QueryToken },
      success: body(
        Schema.Struct({
          joined: Schema.Array(RoomId),
          count: Schema.Int.annotate({ description: "Of all rooms, on other pages too" }),
          next_batch: Schema.optionalKey(Schema.String)
        })
      )
    }).annotateMerge(
      documented({ summary: "Rooms shared with another user", text: "Errors: M_INVALID_PARAM.", who: "any user" })
    ),
    HttpApiEndpoint.get("eventAt", "/v1/rooms/:roomId/timestamp_to_event", {
      params: { roomId: RoomId },
      query: { ts: Count, dir: Schema.Literals(["f", "b"]) },
      success: body(Schema.Struct({ event_id: EventId, origin_server_ts: Schema.Int }))
    }).annotateMerge(
      documented({
        summary: "The event closest to a time",
        text: "Errors: M_NOT_FOUND.",
        who: "users who may see the room"
      })
    ),
    HttpApiEndpoint.post("forget", "/v3/rooms/:roomId/forget", {
      params: { roomId: RoomId },
      payload: OptionalObject,
      success: Done
    }).annotateMerge(documented({ summary: "Forget a room", who: "users who have left it" })),
    HttpApiEndpoint.post("reportEvent", "/v3/rooms/:roomId/report/:eventId", {
      params: { roomId: RoomId, eventId: EventId },
      payload: reportPayload,
      success: Done
    }).annotateMerge(
      documented({ summary: "Report an event", text: "Errors: M_NOT_FOUND.", who: "members who may see it" })
    ),
    HttpApiEndpoint.post("reportRoom", "/v3/rooms/:roomId/report", {
      params: { roomId: RoomId },
      payload: reportPayload,
      success: Done
    }).annotateMerge(documented({ summary: "Report a room", text: "Errors: M_NOT_FOUND.", who: "any user" })),
    HttpApiEndpoint.post("reportUser", "/v3/users/:userId/report", {
      params: { userId: UserId },
      payload: reportPayload,
      success: Done
    }).annotateMerge(documented({ summary: "Report a user", who: "any user" }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Finding, forgetting, reporting" })) {}
