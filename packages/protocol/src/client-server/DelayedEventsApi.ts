/**
 * Events that are sent later.
 *
 * Source: MSC4140, in its present form and in the former one, in which the action is in the body. (The form before that, a
 * parameter of `send` and `state`, is in `RoomsApi`.)
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication, OptionalAuthentication } from "../api/Authentication.ts"
import { AnyPayload, body, Done, OptionalObject } from "../api/Body.ts"
import { documented, idempotent } from "../api/Documentation.ts"
import { boundedText, EventType, StateKey, TransactionId } from "../api/Parameters.ts"
import { EventId, RoomId } from "../Identifiers.ts"
import { Integer, JsonObject } from "../Json.ts"

const delayId = { delayId: boundedText(255) }
const Action = Schema.Literals(["send", "cancel", "restart"])
/** Whether a text is an action on a delayed event: `send`, `cancel`, `restart`. */
export const isDelayAction = Schema.is(Action)

/** The ID of a delayed event that was scheduled. */
export const ScheduledEvent = body(
  Schema.Struct({ delay_id: Schema.String }).annotate({ identifier: "ScheduledEvent" })
)

/** `delay` and `running_since` are the names of older clients. */
const Delayed = Schema.Struct({
  delay_id: Schema.String,
  room_id: RoomId,
  type: Schema.String,
  state_key: Schema.optionalKey(Schema.String),
  delay_ms: Schema.optionalKey(Schema.Int),
  delay: Schema.optionalKey(Schema.Int),
  scheduled_at: Schema.optionalKey(Schema.Int),
  running_since: Schema.optionalKey(Schema.Int),
  content: JsonObject,
  finalised_ts: Schema.optionalKey(Schema.Int),
  event_id: Schema.optionalKey(EventId),
  error: Schema.optionalKey(JsonObject)
}).annotate({ identifier: "DelayedEventStatus" })
export type Delayed = typeof Delayed.Type

const acts = {
  text: "Errors: M_NOT_FOUND; 409 M_UNKNOWN for an event that was sent or cancelled already; for `send` the errors of sending.",
  who: "the author; without an access token whoever knows the delay ID"
}

export class DelayedEventsApi extends HttpApiGroup.make("clientServer.delayedEvents")
  .add(
    HttpApiEndpoint.put("schedule", "/v3/rooms/:roomId/delayed_event/:eventType/:txnId", {
      params: { roomId: RoomId, eventType: EventType, txnId: TransactionId },
      payload: Schema.Struct({
        delay_ms: Integer.annotate({ description: "Milliseconds" }),
        state_key: Schema.optionalKey(StateKey),
        content: AnyPayload
      }).annotate({ identifier: "DelayedEvent" }),
      success: ScheduledEvent
    })
      .middleware(Authentication)
      .annotateMerge(
        documented({
          summary: "Send an event later",
          text: `${idempotent} The power to send it is asked for when it is sent. Errors: M_FORBIDDEN, M_LIMIT_EXCEEDED.`,
          who: "any user"
        })
      ),
    HttpApiEndpoint.get("list", "/v1/delayed_events", {
      success: body(Schema.Struct({ delayed_events: Schema.Array(Delayed) }))
    })
      .middleware(Authentication)
      .annotateMerge(documented({ summary: "The delayed events of the user", who: "their author" })),
    HttpApiEndpoint.get("get", "/v1/delayed_events/:delayId", { params: delayId, success: body(Delayed) })
      .middleware(Authentication)
      .annotateMerge(
        documented({
          summary: "A delayed event, or its outcome",
          text: "Errors: M_NOT_FOUND.",
          who: "its author"
        })
      ),
    HttpApiEndpoint.post("actByBody", "/v1/delayed_events/:delayId", {
      params: delayId,
      payload: Schema.Struct({ action: Action }),
      success: Done
    })
      .middleware(OptionalAuthentication)
      .annotateMerge(documented({ summary: "Send, cancel or restart a delayed event, older form", ...acts })),
    HttpApiEndpoint.post("act", "/v1/delayed_events/:delayId/:action", {
      params: { ...delayId, action: boundedText(255).annotate({ description: "`send`, `cancel` or `restart`" }) },
      payload: OptionalObject,
      success: Done
    })
      .middleware(OptionalAuthentication)
      .annotateMerge(documented({ summary: "Send, cancel or restart a delayed event", ...acts }))
  )
  .annotateMerge(OpenApi.annotations({ title: "Delayed events" })) {}
