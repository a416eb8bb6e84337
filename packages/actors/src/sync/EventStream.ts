/**
 * The parts of a user's event stream.
 *
 * Source: "Receiving live updates on a client" of the draft.
 */
import type { ClientEvent } from "@greenroom/protocol/Event"
import type { RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import type { Effect } from "effect"
import type { PresenceEvent } from "../presence/PresenceContent.ts"

/** `m.typing` as clients receive it: the users typing in the room now. */
export interface TypingEvent {
  readonly type: "m.typing"
  readonly room_id: RoomId
  readonly content: { readonly user_ids: ReadonlyArray<UserId> }
}

/** An event of the stream: of a room, of presence, or of typing. */
export type StreamedEvent = ClientEvent | PresenceEvent | TypingEvent

/**
 * A part of the stream: the events after `start` and up to `end`. They are encoded already, because one event goes to many
 * users.
 */
export interface StreamChunk {
  /** The array of the events as JSON text. */
  readonly json: string
  /** The array of the events as MessagePack. */
  readonly packed: Uint8Array
  /** How many events there are. */
  readonly count: number
  readonly start: string
  readonly end: string
}

/** A live subscription, for sockets: `next` waits for the next chunk that is not empty. */
export interface Subscription {
  readonly next: Effect.Effect<StreamChunk, MatrixError>
}
