/**
 * Search in messages.
 *
 * Source: "Server Side Search" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { AnyObject } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { RoomEventFilter } from "./Filter.ts"
import { Token } from "./RoomsApi.ts"

const optional = <S extends Schema.Top>(schema: S) => Schema.optionalKey(Schema.NullOr(schema))
const limit = optional(Schema.Number.check(Schema.isInt(), Schema.isGreaterThanOrEqualTo(0)))

const RoomEvents = Schema.Struct({
  search_term: Schema.String,
  keys: optional(Schema.Array(Schema.String).check(Schema.isMaxLength(10))),
  filter: optional(RoomEventFilter),
  order_by: optional(Schema.Literals(["recent", "rank"])),
  event_context: optional(
    Schema.Struct({ before_limit: limit, after_limit: limit, include_profile: optional(Schema.Boolean) })
  ),
  include_state: optional(Schema.Boolean),
  groupings: optional(
    Schema.Struct({
      group_by: optional(
        Schema.Array(Schema.Struct({ key: Schema.Literals(["room_id", "sender"]) })).check(Schema.isMaxLength(10))
      )
    })
  )
}).annotate({ identifier: "RoomEventsSearch" })

export class SearchApi extends HttpApiGroup.make("clientServer.search")
  .add(
    HttpApiEndpoint.post("search", "/v3/search", {
      query: { next_batch: Schema.optional(Token) },
      payload: Schema.Struct({ search_categories: Schema.Struct({ room_events: optional(RoomEvents) }) }),
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Search in messages, and in names and topics of rooms",
        text:
          'In rooms that the user is in or has left, as far as the user may see them. `"quoted words"` stand together, ' +
          "`or` and `-` do what they do elsewhere. Errors: M_INVALID_PARAM, M_RESOURCE_LIMIT_EXCEEDED.",
        who: "any user"
      })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Search" })) {}
