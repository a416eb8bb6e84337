/**
 * Events as they are held inside the server, in today's Matrix terms. The names of the draft appear only in its
 * codecs: `ClientEvent` for clients, and the room version's PDU form for other servers.
 */
import { Schema } from "effect"
import { parse as parseExact } from "./ExactJson.ts"
import type { EventId, RoomId, ServerName, UserId } from "./Identifiers.ts"
import { type Json, JsonObject } from "./Json.ts"

/** Signatures of a JSON object: by server name, by key ID (`ed25519:1`), in unpadded base64. */
export interface Signatures {
  readonly [serverName: string]: { readonly [keyId: string]: string }
}

/**
 * An event of a room: a node of the event graph. A state event has `state_key`. Keys that this type does not name are
 * kept, signed over and forwarded (in the draft's room version; in later ones they are in `wire`).
 */
export interface Event {
  readonly event_id: EventId
  readonly room_id: RoomId
  readonly type: string
  readonly sender: UserId
  /** The server that made and signed the event: in room versions 1 to 12 that of the sender. */
  readonly origin: ServerName
  /** Milliseconds since 1970, by the clock of the origin. */
  readonly origin_server_ts: number
  readonly content: JsonObject
  readonly state_key?: string
  readonly prev_events: ReadonlyArray<EventId>
  /** The create event, power levels, join rules and memberships that allow this event. */
  readonly auth_events: ReadonlyArray<EventId>
  /** One more than the deepest of `prev_events`; 1 for the create event. */
  readonly depth: number
  /** The event that an m.room.redaction strips, wherever the room version has it. */
  readonly redacts?: EventId
  /** The state event that this one replaces: `prev_state_id` and `prev_state_origin` of the draft, else a local annotation. */
  readonly replaces_state?: EventId
  /** In the draft's version absent, as is our signature, from an event of ours that has not left this server yet. */
  readonly hashes?: { readonly sha256: string }
  readonly signatures: Signatures
  /**
   * The keys of an event's PDU in room versions 1 to 12 that this type lacks, or has in another form. `toPdu` of the room
   * version puts it back; nothing else reads it.
   */
  readonly wire?: JsonObject
  /**
   * The PDU without `signatures` as canonical JSON, of an event in room versions 1 to 5 with numbers that JavaScript does not
   * have (`ExactJson`). The keys of the event then hold the nearest numbers, and the formats go by this text.
   */
  readonly exact?: string
  /** Local annotations. Never signed, never sent to other servers. */
  readonly unsigned?: Unsigned
  readonly [key: string]: Json | Unsigned | Signatures | undefined
}

/** This server's knowledge of an event beside the event itself. */
export interface Unsigned {
  /** The content that this state event replaced. */
  readonly prev_content?: JsonObject
  /** The sender of the replaced state event. */
  readonly prev_sender?: UserId
  /** The redaction that stripped this event. */
  readonly redacted_because?: EventId
  /** Stripped state of an invitation or a knock, as another server sent it. */
  readonly invite_room_state?: ReadonlyArray<JsonObject>
  /** The login that sent the event, and its transaction ID. Only that login receives it. */
  readonly transaction?: { readonly tokenId: number; readonly txnId: string }
}

const Texts = Schema.Array(Schema.String)

/** The form of `Unsigned`. */
const UnsignedForm = Schema.Struct({
  prev_content: Schema.optionalKey(JsonObject),
  prev_sender: Schema.optionalKey(Schema.String),
  redacted_because: Schema.optionalKey(Schema.String),
  invite_room_state: Schema.optionalKey(Schema.Array(JsonObject)),
  transaction: Schema.optionalKey(Schema.Struct({ tokenId: Schema.Number, txnId: Schema.String }))
})

/**
 * Events in messages between actors. Identifiers are not checked again: that happens where events enter the server (client
 * API schemas, event formats of the room versions). Keys that `Event` does not name are kept.
 */
export const Event: Schema.Codec<Event> = Schema.StructWithRest(
  Schema.Struct({
    event_id: Schema.String,
    room_id: Schema.String,
    type: Schema.String,
    sender: Schema.String,
    origin: Schema.String,
    origin_server_ts: Schema.Number,
    content: JsonObject,
    state_key: Schema.optionalKey(Schema.String),
    prev_events: Texts,
    auth_events: Texts,
    depth: Schema.Number,
    redacts: Schema.optionalKey(Schema.String),
    replaces_state: Schema.optionalKey(Schema.String),
    hashes: Schema.optionalKey(Schema.Struct({ sha256: Schema.String })),
    signatures: Schema.Record(Schema.String, Schema.Record(Schema.String, Schema.String)),
    wire: Schema.optionalKey(JsonObject),
    exact: Schema.optionalKey(Schema.String),
    unsigned: Schema.optionalKey(UnsignedForm)
  }),
  [Schema.Record(Schema.String, Schema.Json)]
) as never

/**
 * An event as clients receive it: the names of the draft (`user_id`, `ts`) and their successors (`sender`,
 * `origin_server_ts`) side by side.
 */
export interface ClientEvent {
  readonly event_id: EventId
  readonly type: string
  readonly room_id: RoomId
  readonly user_id: UserId
  readonly sender: UserId
  readonly content: JsonObject
  readonly ts: number
  readonly origin_server_ts: number
  readonly state_key?: string
  /** The membership of m.room.member, also outside of `content`, where the first clients read it. */
  readonly membership?: string
  readonly prev_content?: JsonObject
  readonly redacts?: EventId
  readonly redacted_because?: EventId
  /** Milliseconds since the event was made. */
  readonly age?: number
}

/** The texts in the content of a membership. Other servers may send other types. */
const textsOfMembers = ["displayname", "avatar_url"] as const

const isTextOrNothing = (value: Json | undefined): boolean =>
  value === undefined || value === null || typeof value === "string"

/** The text that a state event has under a key of its content; undefined if it has none, or an empty one. */
export const contentText = (event: Event | undefined, key: string): string | undefined => {
  const value = event?.content[key]
  return typeof value === "string" && value !== "" ? value : undefined
}

/** The content of a membership without what clients cannot show. The event itself stays what it is. */
const shownMembership = (content: JsonObject): JsonObject => {
  if (textsOfMembers.every((key) => isTextOrNothing(content[key]))) return content
  const shown = { ...content } as Record<string, Json>
  for (const key of textsOfMembers) if (!isTextOrNothing(content[key])) delete shown[key]
  return shown
}

/** The content with the numbers that it was sent with, for `JSON.stringify`. */
export const exactContent = ({ content, exact }: Event): JsonObject =>
  exact === undefined ? content : ((parseExact(exact) as JsonObject).content as JsonObject)

/** The event as a client receives it. `now` (milliseconds since 1970) adds `age`. */
export const toClientEvent = (event: Event, now?: number): ClientEvent => {
  const out: Record<string, unknown> = {
    event_id: event.event_id,
    type: event.type,
    room_id: event.room_id,
    user_id: event.sender,
    sender: event.sender,
    content: exactContent(event),
    ts: event.origin_server_ts,
    origin_server_ts: event.origin_server_ts
  }
  if (event.state_key !== undefined) {
    out.state_key = event.state_key
    if (event.type === "m.room.member") {
      out.membership = event.content.membership
      out.content = shownMembership(exactContent(event))
    }
  }
  if (event.redacts !== undefined) out.redacts = event.redacts
  if (event.unsigned?.prev_content !== undefined) out.prev_content = event.unsigned.prev_content
  if (event.unsigned?.redacted_because !== undefined) out.redacted_because = event.unsigned.redacted_because
  if (now !== undefined) out.age = Math.max(0, now - event.origin_server_ts)
  return out as unknown as ClientEvent
}
