/**
 * The event stream and the initial sync that `/sync` has replaced. Older clients and conformance suites still call them.
 *
 * Source: "GET /events", "GET /initialSync" and "GET /rooms/{roomId}/initialSync" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication, LongPoll } from "../api/Authentication.ts"
import { body } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { EventId, RoomId } from "../Identifiers.ts"
import { ClientEventSchema } from "./ClientEventSchema.ts"
import { Count, QueryToken } from "./RoomsApi.ts"
import { SimpleEvent } from "./SyncAnswer.ts"

const Chunk = body(
  Schema.Struct({
    start: Schema.String,
    end: Schema.String,
    chunk: Schema.Array(Schema.Record(Schema.String, Schema.Unknown))
  }).annotate({ identifier: "EventStreamChunk" })
)

const events = Schema.Array(ClientEventSchema)
const RoomNow = Schema.Struct({
  room_id: RoomId,
  membership: Schema.optionalKey(Schema.String),
  visibility: Schema.optionalKey(Schema.String),
  invite: Schema.optionalKey(ClientEventSchema),
  messages: Schema.optionalKey(
    Schema.Struct({ start: Schema.optionalKey(Schema.String), end: Schema.optionalKey(Schema.String), chunk: events })
  ),
  state: Schema.optionalKey(events),
  account_data: Schema.optionalKey(Schema.Array(SimpleEvent))
}).annotate({ identifier: "RoomInitialSync" })
const Everything = body(
  Schema.Struct({
    end: Schema.String,
    rooms: Schema.Array(RoomNow),
    presence: Schema.optionalKey(Schema.Array(SimpleEvent)),
    account_data: Schema.optionalKey(Schema.Array(SimpleEvent))
  }).annotate({ identifier: "InitialSync" })
)

export class DeprecatedSyncApi extends HttpApiGroup.make("clientServer.deprecatedSync")
  .add(
    HttpApiEndpoint.get("events", "/v3/events", {
      query: {
        from: QueryToken,
        timeout: Schema.optional(Count.annotate({ description: "Milliseconds to wait for updates" })),
        room_id: Schema.optional(RoomId)
      },
      success: Chunk
    })
      .annotate(LongPoll, true)
      .annotateMerge(
        documented({
          summary: "Events after a token, of all rooms of the user or of one room",
          text: "Deprecated; use `/sync`. With `room_id` it shows a world-readable room to users outside. Errors: M_FORBIDDEN.",
          who: "any user; with `room_id` members, and anybody where the history is world-readable"
        })
      ),
    HttpApiEndpoint.get("event", "/v3/events/:eventId", {
      params: { eventId: EventId },
      success: body(ClientEventSchema)
    }).annotateMerge(
      documented({
        summary: "An event of any room",
        text: "Deprecated; use `/rooms/{roomId}/event/{eventId}`. Errors: M_NOT_FOUND.",
        who: "users who may see the event"
      })
    ),
    HttpApiEndpoint.get("initialSync", "/v3/initialSync", {
      query: { limit: Schema.optional(Count), archived: Schema.optional(Schema.Literals(["true", "false"])) },
      success: Everything
    }).annotateMerge(
      documented({
        summary: "All rooms of the user, with their state and newest events",
        text: "Deprecated; use `/sync`.",
        who: "any user"
      })
    ),
    HttpApiEndpoint.get("roomInitialSync", "/v3/rooms/:roomId/initialSync", {
      params: { roomId: RoomId },
      query: { limit: Schema.optional(Count) },
      success: body(RoomNow)
    }).annotateMerge(
      documented({
        summary: "A room with its state and newest events",
        text: "Deprecated, but for previews of rooms. Errors: M_FORBIDDEN.",
        who: "members, past members as of when they left, and anybody where the history is world-readable"
      })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Deprecated syncing" })) {}
