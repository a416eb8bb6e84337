/**
 * Events as clients of today receive them. The caller passes the values that depend on the receiver (`Annotations`); the
 * rest follows from the event.
 *
 * Source: "Room event format" of the client-server specification.
 */
import { type Event, exactContent } from "../Event.ts"
import type { EventId, RoomId, UserId } from "../Identifiers.ts"
import type { JsonObject } from "../Json.ts"

/** An event as clients of today's API receive it. */
export interface ClientServerEvent {
  readonly event_id: EventId
  readonly type: string
  /** Absent if the answer names the room. */
  readonly room_id?: RoomId
  readonly sender: UserId
  readonly content: JsonObject
  readonly origin_server_ts: number
  readonly state_key?: string
  /** The redacted event. Clients get it here and in the content, whatever the room version. */
  readonly redacts?: EventId
  readonly unsigned?: UnsignedData
}

/** The data that a server adds to an event. It is not signed. */
export interface UnsignedData {
  /** Milliseconds since the event was made. */
  readonly age?: number
  readonly prev_content?: JsonObject
  readonly prev_sender?: UserId
  readonly replaces_state?: EventId
  readonly redacted_because?: ClientServerEvent
  /** The ID of that event, as in Synapse. */
  readonly redacted_by?: EventId
  /** The transaction ID by which the receiving device sent the event. */
  readonly transaction_id?: string
  /** The membership of the receiving user at the event. */
  readonly membership?: string
  readonly "m.relations"?: JsonObject
  /** The stripped state of an invitation, for application services. */
  readonly invite_room_state?: ReadonlyArray<StrippedEvent>
  /** The same of a knock. */
  readonly knock_room_state?: ReadonlyArray<StrippedEvent>
}

/** A state event of a room that the receiver is not in. */
export interface StrippedEvent {
  readonly type: string
  readonly state_key: string
  readonly sender: UserId
  readonly content: JsonObject
  /** Set on m.room.create and on the receiver's own membership. */
  readonly event_id?: EventId
  readonly origin_server_ts?: number
}

/** Data that the server adds to the event. */
export interface Annotations {
  /** Milliseconds since 1970, for `age`. */
  readonly now?: number | undefined
  readonly withoutRoomId?: boolean | undefined
  readonly redactedBecause?: Event | undefined
  readonly transactionId?: string | undefined
  /** For the author of a delayed event. */
  readonly delayId?: string | undefined
  readonly membership?: string | undefined
  readonly relations?: JsonObject | undefined
  /** For an invitation or a knock. */
  readonly strippedState?: ReadonlyArray<StrippedEvent> | undefined
}

/** The event that a redaction strips, wherever the room version has it. */
const redactedEventOf = (event: Event): EventId | undefined => {
  if (event.type !== "m.room.redaction") return undefined
  const inContent = event.content.redacts
  return event.redacts ?? (typeof inContent === "string" ? (inContent as EventId) : undefined)
}

const unsignedOf = (event: Event, notes: Annotations): UnsignedData | undefined => {
  const out: Record<string, unknown> = {}
  if (notes.now !== undefined) out.age = Math.max(0, notes.now - event.origin_server_ts)
  if (event.unsigned?.prev_content !== undefined) out.prev_content = event.unsigned.prev_content
  if (event.unsigned?.prev_sender !== undefined) out.prev_sender = event.unsigned.prev_sender
  if (event.replaces_state !== undefined) out.replaces_state = event.replaces_state
  if (notes.redactedBecause !== undefined) {
    out.redacted_because = toClientServerEvent(notes.redactedBecause, { now: notes.now })
    out.redacted_by = notes.redactedBecause.event_id
  }
  if (notes.transactionId !== undefined) out.transaction_id = notes.transactionId
  if (notes.delayId !== undefined) out.delay_id = notes.delayId
  if (notes.membership !== undefined) out.membership = notes.membership
  if (notes.relations !== undefined) out["m.relations"] = notes.relations
  if (notes.strippedState !== undefined) out[`${event.content.membership}_room_state`] = notes.strippedState
  return Object.keys(out).length === 0 ? undefined : (out as UnsignedData)
}

/** The event as a client of today's API receives it, with the given annotations. */
export const toClientServerEvent = (event: Event, notes: Annotations = {}): ClientServerEvent => {
  const out: Record<string, unknown> = {
    event_id: event.event_id,
    type: event.type,
    sender: event.sender,
    content: exactContent(event),
    origin_server_ts: event.origin_server_ts
  }
  if (!notes.withoutRoomId) out.room_id = event.room_id
  if (event.state_key !== undefined) out.state_key = event.state_key
  const redacts = redactedEventOf(event)
  if (redacts !== undefined) {
    out.redacts = redacts
    if (event.content.redacts === undefined) out.content = { ...exactContent(event), redacts }
  }
  const unsigned = unsignedOf(event, notes)
  if (unsigned !== undefined) out.unsigned = unsigned
  return out as unknown as ClientServerEvent
}

/** The m.room.create event comes with its ID and time, as MSC4311 has it: from version 12 on its ID is the room's. */
export const toStrippedEvent = ({
  content,
  event_id,
  origin_server_ts,
  sender,
  state_key = "",
  type
}: Event): StrippedEvent => ({
  type,
  state_key,
  sender,
  content,
  ...(type === "m.room.create" ? { event_id, origin_server_ts } : {})
})
