/**
 * Events of other servers that cannot be placed, because events before them are missing and their origin does not return those. They are
 * placed when the missing events have come, which another server may send later. No later event may lead to them: a server that
 * removes our last user from a room refuses our questions from then on, and sends nothing more.
 *
 * They are in memory, in bounded number and size. Those of the room that waits longest are forgotten first.
 *
 * Source: docs/federation.md, "Receiving a PDU".
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, ServerName } from "@greenroom/protocol/Identifiers"
import { Context, Layer } from "effect"

/** The most bytes of the events of one server, and of all. */
export const maxBytesOfOrigin = 1024 * 1024
export const maxBytes = 16 * 1024 * 1024

/** The most events of one room. */
export const maxEvents = 200

export interface WaitingEvent {
  readonly event: Event
  /** The server that sent it. */
  readonly origin: ServerName
}

interface Kept extends WaitingEvent {
  readonly bytes: number
}

const make = () => {
  const rooms = new Map<RoomId, Map<EventId, Kept>>()
  const bytesOf = new Map<ServerName, number>()
  let total = 0

  const count = (origin: ServerName, bytes: number) => {
    const sum = (bytesOf.get(origin) ?? 0) + bytes
    if (sum === 0) bytesOf.delete(origin)
    else bytesOf.set(origin, sum)
    total += bytes
  }

  const remove = (roomId: RoomId, { bytes, event, origin }: Kept) => {
    const kept = rooms.get(roomId)!
    kept.delete(event.event_id)
    if (kept.size === 0) rooms.delete(roomId)
    count(origin, -bytes)
  }

  const makeRoomFor = (bytes: number) => {
    for (const [roomId, kept] of rooms) {
      if (total + bytes <= maxBytes) return
      for (const entry of kept.values()) remove(roomId, entry)
    }
  }

  const keep = (roomId: RoomId, { event, origin }: WaitingEvent) => {
    const kept = rooms.get(roomId)
    if (kept?.has(event.event_id) === true || (kept?.size ?? 0) >= maxEvents) return
    const bytes = JSON.stringify(event).length
    if ((bytesOf.get(origin) ?? 0) + bytes > maxBytesOfOrigin) return
    makeRoomFor(bytes)
    const ofRoom = rooms.get(roomId) ?? new Map<EventId, Kept>()
    rooms.set(roomId, ofRoom.set(event.event_id, { event, origin, bytes }))
    count(origin, bytes)
  }

  const takeAfter = (roomId: RoomId, ids: ReadonlySet<EventId>): ReadonlyArray<WaitingEvent> => {
    const isAfter = ({ event }: Kept) => [...event.prev_events, ...event.auth_events].some((id) => ids.has(id))
    const taken = [...(rooms.get(roomId)?.values() ?? [])].filter(isAfter)
    for (const entry of taken) remove(roomId, entry)
    return taken
  }

  return WaitingEvents.of({ keep, takeAfter })
}

/** The events that wait for others, of the rooms of this node. */
export class WaitingEvents extends Context.Service<
  WaitingEvents,
  {
    /** Keeps an event, within the bounds. */
    readonly keep: (roomId: RoomId, waiting: WaitingEvent) => void
    /** Removes and returns the events that name one of these as their predecessor or as an auth event. */
    readonly takeAfter: (roomId: RoomId, ids: ReadonlySet<EventId>) => ReadonlyArray<WaitingEvent>
  }
>()("greenroom/actors/room/WaitingEvents") {
  static readonly layer = Layer.sync(WaitingEvents, make)
}
