/**
 * The schema of `ClientServerEvent`, for the documentation and the typed client.
 *
 * Source: "Room event format" of the client-server specification.
 */
import { Schema } from "effect"
import { EventId, RoomId, UserId } from "../Identifiers.ts"
import type { ClientServerEvent } from "./ClientEvent.ts"

const AnyContent = Schema.Record(Schema.String, Schema.Unknown)

/** An event, as `toClientServerEvent` makes it. */
export const ClientEventSchema: Schema.Codec<ClientServerEvent> = Schema.Struct({
  event_id: EventId,
  type: Schema.String,
  room_id: Schema.optionalKey(RoomId),
  sender: UserId,
  content: AnyContent,
  origin_server_ts: Schema.Int,
  state_key: Schema.optionalKey(Schema.String),
  redacts: Schema.optionalKey(EventId),
  unsigned: Schema.optionalKey(AnyContent)
}).annotate({ identifier: "ClientEvent" }) as never
