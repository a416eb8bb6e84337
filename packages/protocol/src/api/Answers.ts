/**
 * Answers of the client API: pages of events, rooms as a client first sees them, presence.
 *
 * Source: "Receiving live updates on a client" and "Presence" of the draft.
 */
import { Schema } from "effect"
import type { ClientEvent as ClientEventType } from "../Event.ts"
import { EventId, RoomAlias, RoomId, ServerName, UserId } from "../Identifiers.ts"
import { body } from "./Body.ts"

const key = <S extends Schema.Top>(schema: S, description: string) =>
  Schema.optionalKey(schema.annotate({ description }))

/** Text that is one of a few in the documentation. It is not checked, for it is ours or was checked when it came. */
const oneOf = (texts: ReadonlyArray<string>) =>
  Schema.String.check(Schema.makeFilter(() => true, { toJsonSchema: () => [{ enum: texts }, true] }))

const AnyContent = Schema.Record(Schema.String, Schema.Unknown)

/** The sender of an event. Rooms of the versions 1 to 12 have user IDs that `UserId` refuses (`isHistoricalUserId`). */
const Sender = Schema.String.annotate({ description: "The user ID of the sender" })

/** An event, as `toClientEvent` makes it. */
export const ClientEvent: Schema.Codec<ClientEventType> = Schema.Struct({
  event_id: EventId,
  type: Schema.String,
  room_id: RoomId,
  user_id: Sender,
  sender: Sender.annotate({ description: "The same as `user_id`, under its later name" }),
  content: AnyContent,
  ts: Schema.Int.annotate({ description: "Milliseconds since 1970, by the clock of the sender's server" }),
  origin_server_ts: Schema.Int.annotate({ description: "The same as `ts`, under its later name" }),
  state_key: key(Schema.String, "State events have this key"),
  membership: key(
    oneOf(["join", "invite", "leave", "ban", "knock"]),
    "Of m.room.member: the same as in the content, as the first clients read it"
  ),
  prev_content: key(AnyContent, "The content that this state event replaced"),
  redacts: key(EventId, "Which event an m.room.redaction strips"),
  redacted_because: key(EventId, "The redaction that stripped this event"),
  age: key(Schema.Int, "Milliseconds since the event was made")
}).annotate({
  identifier: "Event",
  examples: [
    {
      event_id: "$RhAcvIYoyzjGWJ-IB5Kulg:example.org" as EventId,
      type: "m.room.message",
      room_id: "!fY2ET2S4eXPxms6yksRq:example.org" as RoomId,
      user_id: "@alice:example.org" as UserId,
      sender: "@alice:example.org" as UserId,
      content: { msgtype: "m.text", body: "More tea?" },
      ts: 1_795_652_744_504,
      origin_server_ts: 1_795_652_744_504,
      age: 1_200
    }
  ]
}) as never

const token = (description: string) => Schema.String.annotate({ description })
const start = token("The start of the page")
const end = token("The end of the page; give it as `from` for the next one")

const MessagePageFields = Schema.Struct({ chunk: Schema.Array(ClientEvent), start, end }).annotate({
  identifier: "MessagePage"
})

/** A page of events of one room. */
export const MessagePage = body(MessagePageFields)
export type MessagePage = typeof MessagePage.Type

const PresenceKeys = {
  user_id: UserId,
  state: oneOf(["online", "unavailable", "offline", "free_for_chat", "hidden"]),
  presence: Schema.String.annotate({ description: "The same as `state`, under its later name" }),
  status_msg: key(Schema.String, "The user's status message"),
  last_active_ago: key(Schema.Int, "Milliseconds since the user last did something"),
  displayname: Schema.optionalKey(Schema.String),
  avatar_url: Schema.optionalKey(Schema.String)
}

const PresenceContentFields = Schema.Struct(PresenceKeys).annotate({ identifier: "Presence" })

/** The presence of one user. */
export const PresenceContent = body(PresenceContentFields)
export type PresenceContent = typeof PresenceContent.Type

/** `m.presence`, as it reaches the stream. */
export const PresenceEvent = Schema.Struct({
  type: Schema.Literal("m.presence"),
  content: PresenceContentFields
}).annotate({ identifier: "PresenceEvent" })
export type PresenceEvent = typeof PresenceEvent.Type

/** One of the users of a presence list. */
export const PresenceListEntry = Schema.Struct({
  ...PresenceKeys,
  accepted: Schema.Boolean.annotate({ description: "Whether the user lets the owner of the list see their presence" })
}).annotate({ identifier: "PresenceListEntry" })
export type PresenceListEntry = typeof PresenceListEntry.Type

/** A user who may see the caller's presence by a presence list, or asks to. */
export const PresenceObserver = Schema.Struct({
  user_id: UserId,
  accepted: Schema.Boolean.annotate({ description: "Whether the caller lets this user see their presence" })
}).annotate({ identifier: "PresenceObserver" })
export type PresenceObserver = typeof PresenceObserver.Type

/** `m.typing`, as it reaches the stream: the users typing in the room now. */
export const TypingEvent = Schema.Struct({
  type: Schema.Literal("m.typing"),
  room_id: RoomId,
  content: Schema.Struct({ user_ids: Schema.Array(UserId) })
}).annotate({ identifier: "TypingEvent" })
export type TypingEvent = typeof TypingEvent.Type

/** Every event of the stream. */
export const StreamedEvent = Schema.Union([ClientEvent, PresenceEvent, TypingEvent])
export type StreamedEvent = ClientEventType | PresenceEvent | TypingEvent

/** A part of the event stream. */
export const EventStreamChunk = body(
  Schema.Struct({ chunk: Schema.Array(StreamedEvent), start, end }).annotate({ identifier: "EventStreamChunk" })
)
export type EventStreamChunk = typeof EventStreamChunk.Type

const Visibility = Schema.Literals(["public", "private"])

const RoomSnapshotKeys = {
  room_id: RoomId,
  membership: oneOf(["join", "invite", "leave", "ban", "knock"]).annotate({ description: "The caller's" }),
  inviter: key(UserId, "The inviter of the caller"),
  visibility: Schema.optionalKey(Visibility),
  messages: Schema.optionalKey(MessagePageFields),
  state: key(Schema.Array(ClientEvent), "All current state events")
}

/** One room, as a client first sees it. */
export const RoomSnapshot = Schema.Struct(RoomSnapshotKeys).annotate({ identifier: "RoomSnapshot" })
export type RoomSnapshot = typeof RoomSnapshot.Type

/** One room with the presence of its members. */
export const RoomInitialSync = body(
  Schema.Struct({ ...RoomSnapshotKeys, presence: Schema.Array(PresenceEvent) }).annotate({
    identifier: "RoomInitialSync"
  })
)
export type RoomInitialSync = typeof RoomInitialSync.Type

/** All rooms of the caller, and the token from which the stream continues. */
export const InitialSync = body(
  Schema.Struct({ end, presence: Schema.Array(PresenceEvent), rooms: Schema.Array(RoomSnapshot) }).annotate({
    identifier: "InitialSync"
  })
)
export type InitialSync = typeof InitialSync.Type

/** All state events of a room. */
export const StateEvents = Schema.Array(ClientEvent)

/** A room in the list of public rooms. */
export const PublicRoom = Schema.Struct({
  room_id: RoomId,
  name: Schema.optionalKey(Schema.String),
  topic: Schema.optionalKey(Schema.String),
  aliases: Schema.Array(RoomAlias),
  num_joined_members: Schema.Int
}).annotate({ identifier: "PublicRoom" })
export type PublicRoom = typeof PublicRoom.Type

/** The rooms that everybody may find. */
export const PublicRooms = body(Schema.Struct({ chunk: Schema.Array(PublicRoom), start, end }))
export type PublicRooms = typeof PublicRooms.Type

/** The event that a request made. */
export const SentEvent = body(Schema.Struct({ event_id: EventId }).annotate({ identifier: "SentEvent" }))
export type SentEvent = typeof SentEvent.Type

/** The joined room. */
export const JoinedRoom = body(Schema.Struct({ room_id: RoomId }).annotate({ identifier: "JoinedRoom" }))
export type JoinedRoom = typeof JoinedRoom.Type

/** The created room. */
export const CreatedRoom = body(
  Schema.Struct({ room_id: RoomId, room_alias: Schema.optionalKey(RoomAlias) }).annotate({ identifier: "CreatedRoom" })
)
export type CreatedRoom = typeof CreatedRoom.Type

/** The room of an alias. */
export const ResolvedAlias = body(
  Schema.Struct({
    room_id: RoomId,
    servers: Schema.Array(ServerName).annotate({ description: "Servers by which the room can be joined" })
  }).annotate({ identifier: "ResolvedAlias" })
)
export type ResolvedAlias = typeof ResolvedAlias.Type

/** Time-limited credentials for a TURN server; `{}` where the operator configured none. */
export const TurnServer = body(
  Schema.Struct({
    username: Schema.optionalKey(Schema.String),
    password: Schema.optionalKey(Schema.String),
    uris: Schema.optionalKey(Schema.Array(Schema.String)),
    ttl: key(Schema.Int, "Seconds for which the credentials hold")
  }).annotate({ identifier: "TurnServer" })
)
export type TurnServer = typeof TurnServer.Type

const NoRules = Schema.Array(Schema.Unknown).annotate({ description: "Empty" })

/** The push rules of a user, which are empty in this API. */
export const PushRules = body(
  Schema.Struct({
    device: Schema.Struct({}),
    global: Schema.Struct({ content: NoRules, override: NoRules, room: NoRules, sender: NoRules, underride: NoRules })
  })
)
export type PushRules = typeof PushRules.Type
