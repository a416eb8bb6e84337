/**
 * Rooms: creating them, sending to them, reading back.
 *
 * Source: "Rooms", "Messages" and "Typing notifications" of the draft.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { EventId, RoomId, UserId } from "../Identifiers.ts"
import { Integer } from "../Json.ts"
import { PaginationFields } from "../Pagination.ts"
import { CreatedRoom, MessagePage, SentEvent } from "./Answers.ts"
import { Authentication } from "./Authentication.ts"
import { Absent, AnyPayload, Done, OptionalObject } from "./Body.ts"
import { documented, idempotent } from "./Documentation.ts"
import { EventType, TransactionId } from "./Parameters.ts"

/** The most users that `createRoom` invites at once. */
export const maxInvites = 1000

/** The options of a new room. Every key is optional. */
export const CreateRoom = Schema.Struct({
  visibility: Schema.optionalKey(
    Schema.Literals(["public", "private"]).annotate({
      description: "`public` (the default): the room is listed, and anyone may join it",
      default: "public"
    })
  ),
  room_alias_name: Schema.optionalKey(
    Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(255)).annotate({
      description: "The localpart of an alias on this server, without `#`"
    })
  ),
  name: Schema.optionalKey(Schema.String),
  topic: Schema.optionalKey(Schema.String),
  invite: Schema.optionalKey(Schema.Array(UserId).check(Schema.isMaxLength(maxInvites))),
  room_version: Schema.optionalKey(
    Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(255)).annotate({
      description: "An extension of the draft: the ID of a room version, from `1` to `12`; the draft's if absent"
    })
  )
}).annotate({ identifier: "CreateRoom" })
export type CreateRoom = typeof CreateRoom.Type

/** The version of the room that replaces another one. */
export const UpgradeRoom = Schema.Struct({
  new_version: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(255)).annotate({
    description: "The ID of the version of the new room, from `1` to `12`"
  })
}).annotate({ identifier: "UpgradeDraftRoom" })
export type UpgradeRoom = typeof UpgradeRoom.Type

/**
 * Whether a user types, which some clients say by 1 and 0, and for how long, in ms, if nothing else is said (default
 * 30,000).
 */
export const Typing = Schema.Struct({
  typing: Schema.Union([Schema.Boolean, Schema.Literals([0, 1])]).annotate({ expected: "true or false" }),
  timeout: Schema.optionalKey(Integer.check(Schema.isGreaterThanOrEqualTo(0)))
}).annotate({ identifier: "Typing" })
export type Typing = typeof Typing.Type

const { dir, from, limit, to } = PaginationFields

const createDoc =
  "Emits m.room.create, the creator's membership, power levels, join rules and the rest of the configuration before it " +
  "answers. Errors: M_ROOM_IN_USE, M_UNSUPPORTED_ROOM_VERSION."
const sendDoc =
  "The content of the event; its type says which keys it needs. Errors: M_BAD_JSON, M_FORBIDDEN, M_TOO_LARGE."
const message = { msgtype: "m.text", body: "More tea?" }
const redaction = { reason: "Said in the wrong room" }
const senders = "members of the room with the power level of the type"
const redactDoc =
  "Strips the event to what the protocol needs. The body is the content of the redaction, such as a `reason`. Errors: M_FORBIDDEN, " +
  "M_NOT_FOUND, M_BAD_JSON, M_INVALID_PARAM for an event of another room."
const redacters = "the sender of the event, and members with the power level `redact`"

export class RoomsApi extends HttpApiGroup.make("rooms")
  .add(
    HttpApiEndpoint.post("createRoom", "/createRoom", {
      payload: [CreateRoom, Absent],
      success: CreatedRoom
    }).annotateMerge(documented({ summary: "Create a room", text: createDoc, who: "any user" })),
    HttpApiEndpoint.put("createRoomWithTransaction", "/createRoom/:txnId", {
      params: { txnId: TransactionId },
      payload: [CreateRoom, Absent],
      success: CreatedRoom
    }).annotateMerge(
      documented({
        summary: "Create a room with a transaction ID",
        text: `${createDoc} ${idempotent}`,
        who: "any user"
      })
    ),
    HttpApiEndpoint.post("upgrade", "/rooms/:roomId/upgrade", {
      params: { roomId: RoomId },
      payload: UpgradeRoom,
      success: Schema.Struct({ replacement_room: RoomId })
    }).annotateMerge(
      documented({
        summary: "Replace a room by one of another version",
        text:
          "An extension of the draft. Settings, power levels, bans and aliases are copied; m.room.tombstone names the new " +
          "room. Errors: M_FORBIDDEN, M_UNSUPPORTED_ROOM_VERSION.",
        who: "members with the power level of m.room.tombstone",
        request: { new_version: "12" }
      })
    ),
    HttpApiEndpoint.post("send", "/rooms/:roomId/send/:type", {
      params: { roomId: RoomId, type: EventType },
      payload: AnyPayload,
      success: SentEvent
    }).annotateMerge(documented({ summary: "Send an event", text: sendDoc, who: senders, request: message })),
    HttpApiEndpoint.put("sendWithTransaction", "/rooms/:roomId/send/:type/:txnId", {
      params: { roomId: RoomId, type: EventType, txnId: TransactionId },
      payload: AnyPayload,
      success: SentEvent
    }).annotateMerge(
      documented({
        summary: "Send an event with a transaction ID",
        text: `${sendDoc} ${idempotent}`,
        who: senders,
        request: message
      })
    ),
    HttpApiEndpoint.get("messages", "/rooms/:roomId/messages", {
      params: { roomId: RoomId },
      query: {
        from,
        to,
        limit,
        dir,
        feedback: Schema.optional(
          Schema.String.annotate({ description: "`true` bundles feedback with the message that it is about" })
        )
      },
      success: MessagePage
    }).annotateMerge(
      documented({
        summary: "Page through the events of a room",
        text:
          "In both directions (default: 10 events backwards from now). Older history is fetched from other servers. " +
          "Errors: M_BAD_PAGINATION, M_FORBIDDEN.",
        who: "members of the room, past members up to when they left"
      })
    ),
    HttpApiEndpoint.post("redact", "/rooms/:roomId/redact/:eventId", {
      params: { roomId: RoomId, eventId: EventId },
      payload: OptionalObject,
      success: SentEvent
    }).annotateMerge(documented({ summary: "Redact an event", text: redactDoc, who: redacters, request: redaction })),
    HttpApiEndpoint.put("redactWithTransaction", "/rooms/:roomId/redact/:eventId/:txnId", {
      params: { roomId: RoomId, eventId: EventId, txnId: TransactionId },
      payload: OptionalObject,
      success: SentEvent
    }).annotateMerge(
      documented({
        summary: "Redact an event with a transaction ID",
        text: `${redactDoc} ${idempotent}`,
        who: redacters,
        request: redaction
      })
    ),
    HttpApiEndpoint.put("typing", "/rooms/:roomId/typing/:userId", {
      params: { roomId: RoomId, userId: UserId },
      payload: Typing,
      success: Done
    }).annotateMerge(
      documented({
        summary: "Set whether the user is typing",
        text: "Ends after `timeout` ms. Other members receive m.typing. Errors: M_FORBIDDEN.",
        who: "members of the room, for themselves"
      })
    )
  )
  .middleware(Authentication)
  .annotateMerge(
    OpenApi.annotations({ title: "Rooms", description: "Creating rooms, sending events, reading history." })
  ) {}
