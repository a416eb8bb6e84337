/**
 * Relations between events, and threads.
 *
 * Source: "Relationships API" and "Threading" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { body } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { EventType } from "../api/Parameters.ts"
import { EventId, RoomId } from "../Identifiers.ts"
import { ClientEventSchema } from "./ClientEventSchema.ts"
import { Count, QueryToken } from "./RoomsApi.ts"

const params = { roomId: RoomId, eventId: EventId }
const query = {
  from: QueryToken,
  to: QueryToken,
  dir: Schema.optional(Schema.Literals(["f", "b"])),
  limit: Schema.optional(Count),
  recurse: Schema.optional(Schema.Literals(["true", "false"])),
  "org.matrix.msc3981.recurse": Schema.optional(Schema.Literals(["true", "false"]))
}
const Page = body(
  Schema.Struct({
    chunk: Schema.Array(ClientEventSchema),
    next_batch: Schema.optionalKey(Schema.String),
    prev_batch: Schema.optionalKey(Schema.String),
    recursion_depth: Schema.optionalKey(Schema.Int)
  }).annotate({ identifier: "RelatedEvents" })
)
const readers = "users who may see the event"

export class RelationsApi extends HttpApiGroup.make("clientServer.relations")
  .add(
    HttpApiEndpoint.get("all", "/v1/rooms/:roomId/relations/:eventId", { params, query, success: Page }).annotateMerge(
      documented({ summary: "The events that relate to an event", text: "Errors: M_NOT_FOUND.", who: readers })
    ),
    HttpApiEndpoint.get("ofRelType", "/v1/rooms/:roomId/relations/:eventId/:relType", {
      params: { ...params, relType: EventType },
      query,
      success: Page
    }).annotateMerge(documented({ summary: "The events that relate to an event in one way", who: readers })),
    HttpApiEndpoint.get("ofEventType", "/v1/rooms/:roomId/relations/:eventId/:relType/:eventType", {
      params: { ...params, relType: EventType, eventType: EventType },
      query,
      success: Page
    }).annotateMerge(
      documented({ summary: "The events of one type that relate to an event in one way", who: readers })
    ),
    HttpApiEndpoint.get("threads", "/v1/rooms/:roomId/threads", {
      params: { roomId: RoomId },
      query: {
        include: Schema.optional(Schema.Literals(["all", "participated"])),
        from: QueryToken,
        limit: Schema.optional(Count)
      },
      success: Page
    }).annotateMerge(documented({ summary: "Threads, by their newest event", who: "users who may see the room" }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Relations and threads" })) {}
