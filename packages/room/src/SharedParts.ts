/**
 * Parts that most events of a room repeat: its ID, types, servers, lists of auth events. JSON gives every event its own copies,
 * which are a third of its memory. Use it for events that stay in memory.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, ServerName } from "@greenroom/protocol/Identifiers"

/** How many values of a kind are remembered. Then all are forgotten: a new copy is shared from there on. */
const mostShared = 1_000

class SharedValues<A> {
  private readonly values = new Map<string, A>()

  /** The value that was first given with this text. */
  of(text: string, value: A): A {
    const known = this.values.get(text)
    if (known !== undefined) return known
    if (this.values.size === mostShared) this.values.clear()
    this.values.set(text, value)
    return value
  }
}

const texts = new SharedValues<string>()
const lists = new SharedValues<ReadonlyArray<EventId>>()

/** The parts of an event that others may repeat. */
type Parts = Pick<Event, "auth_events" | "origin" | "room_id" | "sender" | "type"> & { readonly state_key?: string }

/** The same parts, equal ones of several events as one object. */
export const sharedParts = ({ auth_events, origin, room_id, sender, state_key, type }: Parts): Parts => ({
  room_id: texts.of(room_id, room_id) as RoomId,
  type: texts.of(type, type),
  sender,
  origin: texts.of(origin, origin) as ServerName,
  auth_events: lists.of(JSON.stringify(auth_events), auth_events),
  ...(state_key === undefined ? {} : { state_key: state_key === sender ? sender : state_key })
})
