/**
 * Rooms: sending events, state, memberships, and reading back.
 *
 * Source: "Getting events for a room", "Sending events to a room", "Room membership" of the client-server specification.
 */
import { Schema, SchemaTransformation } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication } from "../api/Authentication.ts"
import { AnyObject, AnyPayload, body, Done, listBody, OptionalObject } from "../api/Body.ts"
import { documented, idempotent } from "../api/Documentation.ts"
import { boundedText, EventType, RoomIdOrAlias, StateKey, TransactionId } from "../api/Parameters.ts"
import { EventId, HistoricalUserId, RoomId, UserId } from "../Identifiers.ts"
import { Integer } from "../Json.ts"
import { ClientEventSchema } from "./ClientEventSchema.ts"
import { RoomEventFilter } from "./Filter.ts"

/** The parameter by which clients of MSC4140's first form delay an event. */
export const delayParameter = "org.matrix.msc4140.delay"

const JoinedMember = Schema.Struct({
  display_name: Schema.optionalKey(Schema.NullOr(Schema.String)),
  avatar_url: Schema.optionalKey(Schema.NullOr(Schema.String))
})
const Events = Schema.Array(ClientEventSchema)

/** The ID of the sent event. */
export const SentEvent = body(Schema.Struct({ event_id: EventId }).annotate({ identifier: "SentEvent" }))
export type SentEvent = typeof SentEvent.Type
/** The ID of the joined room. */
export const JoinedRoom = body(Schema.Struct({ room_id: RoomId }).annotate({ identifier: "JoinedRoom" }))

/** A count in a query: text of digits. */
export const Count = Schema.NumberFromString.check(
  Schema.isInt({ expected: "a whole number" }),
  Schema.isGreaterThanOrEqualTo(0)
)

/** A stream token in a query. */
export const Token = boundedText(1_024)
/** A token in a query that may be absent. An empty one counts as absent: mautrix-go, matrix-bot-sdk and libQuotient send it. */
export const QueryToken = Schema.optional(
  Token.pipe(
    Schema.decodeTo(
      Schema.UndefinedOr(Token),
      SchemaTransformation.transform({ decode: (token) => token || undefined, encode: (token) => token ?? "" })
    )
  )
)

/** JSON in a query, such as a filter. */
export const jsonQuery = <S extends Schema.Top>(schema: S) => Schema.fromJsonString(schema)

const Reason = Schema.optionalKey(Schema.NullOr(Schema.String))

/** The user of a kick or a ban. */
const Target = Schema.Struct({ user_id: HistoricalUserId, reason: Reason }).annotate({ identifier: "MembershipTarget" })

const room = { roomId: RoomId }
const readers = "members, past members as of when they left, and anybody where the history is world-readable"
const delay = Schema.optional(
  Count.annotate({ description: "Milliseconds after which the event is sent (MSC4140): the answer is a `delay_id`" })
)
const ts = Schema.optional(Count.annotate({ description: "The time of the event, for application services" }))

export class RoomsApi extends HttpApiGroup.make("clientServer.rooms")
  .add(
    HttpApiEndpoint.put("send", "/v3/rooms/:roomId/send/:eventType/:txnId", {
      params: { ...room, eventType: EventType, txnId: TransactionId },
      query: { ts, [delayParameter]: delay },
      payload: OptionalObject,
      success: SentEvent
    }).annotateMerge(
      documented({
        summary: "Send an event",
        text: `${idempotent} Errors: M_DUPLICATE_ANNOTATION, M_TOO_LARGE.`,
        who: "members with the power level of the type"
      })
    ),
    HttpApiEndpoint.post("sendWithoutTransaction", "/v3/rooms/:roomId/send/:eventType", {
      params: { ...room, eventType: EventType },
      query: { ts, [delayParameter]: delay },
      payload: AnyPayload,
      success: SentEvent
    }).annotateMerge(
      documented({
        summary: "Send an event without a transaction ID, as Synapse does",
        text: "A repeat sends another event.",
        who: "members with the power level of the type"
      })
    ),
    HttpApiEndpoint.put("setState", "/v3/rooms/:roomId/state/:eventType", {
      params: { ...room, eventType: EventType },
      query: { ts, [delayParameter]: delay },
      payload: AnyPayload,
      success: SentEvent
    }).annotateMerge(
      documented({ summary: "Set state with the empty state key", who: "members with the required power level" })
    ),
    HttpApiEndpoint.put("setStateWithKey", "/v3/rooms/:roomId/state/:eventType/:stateKey", {
      params: { ...room, eventType: EventType, stateKey: StateKey },
      query: { ts, [delayParameter]: delay },
      payload: AnyPayload,
      success: SentEvent
    }).annotateMerge(documented({ summary: "Set state", who: "members with the required power level" })),
    HttpApiEndpoint.put("redact", "/v3/rooms/:roomId/redact/:eventId/:txnId", {
      params: { ...room, eventId: EventId, txnId: TransactionId },
      payload: OptionalObject,
      success: SentEvent
    }).annotateMerge(
      documented({
        summary: "Redact an event",
        text: `The body is the content of the redaction, such as a \`reason\`. ${idempotent}`,
        who: "its sender, and members with the power level `redact`"
      })
    ),
    HttpApiEndpoint.post("redactWithoutTransaction", "/v3/rooms/:roomId/redact/:eventId", {
      params: { ...room, eventId: EventId },
      payload: OptionalObject,
      success: SentEvent
    }).annotateMerge(
      documented({
        summary: "Redact an event without a transaction ID, as Synapse does",
        text: "A repeat makes another redaction.",
        who: "its sender, and members with the power level `redact`"
      })
    ),
    HttpApiEndpoint.get("state", "/v3/rooms/:roomId/state", {
      params: room,
      success: listBody(Events)
    }).annotateMerge(documented({ summary: "All state", who: readers })),
    HttpApiEndpoint.get("stateEvent", "/v3/rooms/:roomId/state/:eventType", {
      params: { ...room, eventType: EventType },
      query: { format: Schema.optional(Schema.Literals(["content", "event"])) },
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "State with the empty state key", text: "Errors: M_NOT_FOUND.", who: readers })
    ),
    HttpApiEndpoint.get("stateEventWithKey", "/v3/rooms/:roomId/state/:eventType/:stateKey", {
      params: { ...room, eventType: EventType, stateKey: StateKey },
      query: { format: Schema.optional(Schema.Literals(["content", "event"])) },
      success: AnyObject
    }).annotateMerge(documented({ summary: "State", text: "Errors: M_NOT_FOUND.", who: readers })),
    HttpApiEndpoint.get("members", "/v3/rooms/:roomId/members", {
      params: room,
      query: {
        at: QueryToken,
        membership: Schema.optional(Schema.Literals(["join", "invite", "leave", "ban", "knock"])),
        not_membership: Schema.optional(Schema.Literals(["join", "invite", "leave", "ban", "knock"]))
      },
      success: body(Schema.Struct({ chunk: Events }))
    }).annotateMerge(documented({ summary: "The memberships of a room", who: readers })),
    HttpApiEndpoint.get("joinedMembers", "/v3/rooms/:roomId/joined_members", {
      params: room,
      success: body(Schema.Struct({ joined: Schema.Record(Schema.String, JoinedMember) }))
    }).annotateMerge(documented({ summary: "The joined members", who: "members" })),
    HttpApiEndpoint.get("event", "/v3/rooms/:roomId/event/:eventId", {
      params: { ...room, eventId: EventId },
      success: body(ClientEventSchema)
    }).annotateMerge(documented({ summary: "One event", text: "Errors: M_NOT_FOUND.", who: readers })),
    HttpApiEndpoint.get("messages", "/v3/rooms/:roomId/messages", {
      params: room,
      query: {
        // Required, but checked after the right to read the room, so that its lack hides no M_FORBIDDEN.
        dir: Schema.optional(Schema.Literals(["f", "b"])),
        from: QueryToken,
        to: QueryToken,
        limit: Schema.optional(Count),
        filter: Schema.optional(jsonQuery(RoomEventFilter))
      },
      success: body(
        Schema.Struct({
          start: Schema.String,
          end: Schema.optionalKey(Schema.String),
          chunk: Events,
          state: Schema.optionalKey(Events)
        })
      )
    }).annotateMerge(documented({ summary: "A page of the timeline", who: readers })),
    HttpApiEndpoint.get("context", "/v3/rooms/:roomId/context/:eventId", {
      params: { ...room, eventId: EventId },
      query: { limit: Schema.optional(Count), filter: Schema.optional(jsonQuery(RoomEventFilter)) },
      success: body(
        Schema.Struct({
          start: Schema.String,
          end: Schema.String,
          event: ClientEventSchema,
          events_before: Events,
          events_after: Events,
          state: Events
        })
      )
    }).annotateMerge(documented({ summary: "The context of an event", text: "Errors: M_NOT_FOUND.", who: readers })),
    HttpApiEndpoint.get("joinedRooms", "/v3/joined_rooms", {
      success: body(Schema.Struct({ joined_rooms: Schema.Array(RoomId) }))
    }).annotateMerge(documented({ summary: "Rooms of the user", who: "any user" })),
    HttpApiEndpoint.post("joinByIdOrAlias", "/v3/join/:roomIdOrAlias", {
      params: { roomIdOrAlias: RoomIdOrAlias },
      payload: OptionalObject,
      success: JoinedRoom
    }).annotateMerge(
      documented({
        summary: "Join a room, also over federation",
        text: "`via` and `server_name` in the query name servers that may know the room. Errors: M_FORBIDDEN, M_NOT_FOUND.",
        who: "users whom the join rules allow"
      })
    ),
    HttpApiEndpoint.post("join", "/v3/rooms/:roomId/join", {
      params: room,
      payload: OptionalObject,
      success: JoinedRoom
    }).annotateMerge(documented({ summary: "Join a room", who: "users whom the join rules allow" })),
    HttpApiEndpoint.post("knock", "/v3/knock/:roomIdOrAlias", {
      params: { roomIdOrAlias: RoomIdOrAlias },
      payload: OptionalObject,
      success: JoinedRoom
    }).annotateMerge(documented({ summary: "Knock at a room", who: "users whom the join rules allow to knock" })),
    HttpApiEndpoint.post("leave", "/v3/rooms/:roomId/leave", {
      params: room,
      payload: OptionalObject,
      success: Done
    }).annotateMerge(
      documented({
        summary: "Leave, reject an invitation, or take back a knock",
        who: "users who are joined or invited, or knock"
      })
    ),
    HttpApiEndpoint.post("invite", "/v3/rooms/:roomId/invite", {
      params: room,
      payload: AnyPayload,
      success: Done
    }).annotateMerge(
      documented({ summary: "Invite a user or a third-party ID", who: "members with the required power level" })
    ),
    HttpApiEndpoint.post("kick", "/v3/rooms/:roomId/kick", {
      params: room,
      payload: Target,
      success: Done
    }).annotateMerge(documented({ summary: "Remove a user", who: "members with the required power level" })),
    HttpApiEndpoint.post("ban", "/v3/rooms/:roomId/ban", {
      params: room,
      payload: Target,
      success: Done
    }).annotateMerge(documented({ summary: "Ban a user", who: "members with the required power level" })),
    HttpApiEndpoint.post("unban", "/v3/rooms/:roomId/unban", {
      params: room,
      payload: Target,
      success: Done
    }).annotateMerge(documented({ summary: "Lift a ban", who: "members with the required power level" })),
    HttpApiEndpoint.put("typing", "/v3/rooms/:roomId/typing/:userId", {
      params: { ...room, userId: UserId },
      payload: Schema.Struct({
        typing: Schema.Boolean,
        timeout: Schema.optionalKey(Integer.check(Schema.isGreaterThanOrEqualTo(0)))
      }),
      success: Done
    }).annotateMerge(documented({ summary: "Set whether the user is typing", who: "members, for themselves" }))
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Rooms" })) {}
