/**
 * Search in messages.
 *
 * Source: "Server Side Search" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication, ReadOnly } from "../api/Authentication.ts"
import { body } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { nullable } from "../Json.ts"
import { ClientEventSchema } from "./ClientEventSchema.ts"
import { RoomEventFilter } from "./Filter.ts"
import { QueryToken } from "./RoomsApi.ts"

const limit = nullable(Schema.Number.check(Schema.isInt(), Schema.isGreaterThanOrEqualTo(0)))

const RoomEvents = Schema.Struct({
  search_term: Schema.String,
  keys: nullable(Schema.Array(Schema.String).check(Schema.isMaxLength(10))),
  filter: nullable(RoomEventFilter),
  order_by: nullable(Schema.Literals(["recent", "rank"])),
  event_context: nullable(
    Schema.Struct({ before_limit: limit, after_limit: limit, include_profile: nullable(Schema.Boolean) })
  ),
  include_state: nullable(Schema.Boolean),
  groupings: nullable(
    Schema.Struct({
      group_by: nullable(
        Schema.Array(Schema.Struct({ key: Schema.Literals(["room_id", "sender"]) })).check(Schema.isMaxLength(10))
      )
    })
  )
}).annotate({ identifier: "RoomEventsSearch" })

const events = Schema.Array(ClientEventSchema)

const Result = Schema.Struct({
  rank: Schema.optionalKey(Schema.Number),
  result: Schema.optionalKey(ClientEventSchema),
  context: Schema.optionalKey(
    Schema.Struct({
      start: Schema.optionalKey(Schema.String),
      end: Schema.optionalKey(Schema.String),
      profile_info: Schema.optionalKey(
        Schema.Record(
          Schema.String,
          Schema.Struct({ displayname: nullable(Schema.String), avatar_url: nullable(Schema.String) })
        )
      ),
      events_before: Schema.optionalKey(events),
      events_after: Schema.optionalKey(events)
    })
  )
})

const ResultGroup = Schema.Struct({
  next_batch: Schema.optionalKey(Schema.String),
  order: Schema.optionalKey(Schema.Int),
  results: Schema.optionalKey(Schema.Array(Schema.String))
})

const Found = body(
  Schema.Struct({
    search_categories: Schema.Struct({
      room_events: Schema.optionalKey(
        Schema.Struct({
          count: Schema.optionalKey(Schema.Int),
          highlights: Schema.optionalKey(Schema.Array(Schema.String)),
          results: Schema.optionalKey(Schema.Array(Result)),
          state: Schema.optionalKey(Schema.Record(Schema.String, events)),
          groups: Schema.optionalKey(Schema.Record(Schema.String, Schema.Record(Schema.String, ResultGroup))),
          next_batch: Schema.optionalKey(Schema.String)
        })
      )
    })
  }).annotate({ identifier: "SearchResults" })
)

export class SearchApi extends HttpApiGroup.make("clientServer.search")
  .add(
    HttpApiEndpoint.post("search", "/v3/search", {
      query: { next_batch: QueryToken },
      payload: Schema.Struct({ search_categories: Schema.Struct({ room_events: nullable(RoomEvents) }) }),
      success: Found
    })
      .annotate(ReadOnly, true)
      .annotateMerge(
        documented({
          summary: "Search in messages, and in names and topics of rooms",
          text:
            'In rooms that the user is in or has left, as far as the user may see them. `"quoted words"` are a phrase, ' +
            "`or` separates alternatives, `-` excludes a word. Errors: M_INVALID_PARAM, M_UNKNOWN where it takes too long.",
          who: "any user"
        })
      )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Search" })) {}
