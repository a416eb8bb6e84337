/**
 * Events of the stream in the forms in which they travel. An event goes to many clients, so its JSON text and its
 * MessagePack are made once; only its age, which is the last key, differs from one reader to the next.
 */
import { type Event, toClientEvent } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import * as MessagePack from "@greenroom/protocol/MessagePack"
import type { StreamedEvent } from "@greenroom/store/EventLog"
import type { StateRef } from "@greenroom/store/StateStore"
import type { StreamPosition } from "@greenroom/store/StreamToken"

/** One item of a chunk. */
export interface StreamItem {
  /** JSON text. */
  readonly json: string
  /** The bytes of the MessagePack, in parts. */
  readonly packed: () => ReadonlyArray<Uint8Array>
}

/** An item that is made for one reader. */
export const itemOf = (value: unknown): StreamItem => ({
  json: JSON.stringify(value),
  packed: () => [MessagePack.encode(value)]
})

/** The age of an event that is its own `now`: the last byte of its MessagePack, the last digit of its JSON. */
const noAge = "0"

export class FeedEntry {
  readonly position: StreamPosition
  readonly eventId: EventId
  readonly roomNid: number
  /**
   * The state of the room before and after the event, where it is the same as after the event before: undefined if the
   * event may have changed it, or that is not known.
   */
  readonly stateAt: StateRef | undefined
  event!: Event
  private replaces: EventId | undefined
  private madeAt!: number
  /** The JSON of the event as far as its age. */
  private text!: string
  /** The MessagePack of the event as far as its age. */
  private bytes: Uint8Array | undefined

  constructor({ event, position, roomNid }: StreamedEvent, stateAt?: StateRef) {
    this.position = position
    this.eventId = event.event_id
    this.roomNid = roomNid
    this.stateAt = stateAt
    this.replace(event)
  }

  /** About how many bytes the entry has. */
  get size(): number {
    return 2 * this.text.length
  }

  /** Whether the event is one of these, or contains the content of one that it replaced. */
  concerns(ids: ReadonlySet<EventId>): boolean {
    return ids.has(this.eventId) || (this.replaces !== undefined && ids.has(this.replaces))
  }

  /** Whether the event is all that is new with it: it changes neither state nor other events. */
  get isPlain(): boolean {
    const { redacts, state_key, type, unsigned } = this.event
    return (
      this.stateAt !== undefined &&
      state_key === undefined &&
      redacts === undefined &&
      type !== "m.room.redaction" &&
      unsigned?.redacted_because === undefined
    )
  }

  /** Takes the redacted form of the event. */
  replace(event: Event): void {
    this.event = event
    this.replaces = event.replaces_state
    this.madeAt = event.origin_server_ts
    this.text = JSON.stringify(toClientEvent(event, event.origin_server_ts)).slice(0, -2)
    this.bytes = undefined
  }

  /** The event as it is at `now`, milliseconds since 1970. */
  at(now: number): StreamItem {
    const age = Math.max(0, now - this.madeAt)
    return { json: `${this.text}${age}}`, packed: () => [this.packed, MessagePack.encode(age)] }
  }

  private get packed(): Uint8Array {
    // A copy, since the encoder returns a view of a larger buffer.
    this.bytes ??= new Uint8Array(MessagePack.encode(JSON.parse(`${this.text}${noAge}}`)).subarray(0, -1))
    return this.bytes
  }
}
