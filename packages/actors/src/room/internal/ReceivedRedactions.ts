/**
 * Redactions and the events that they name may arrive in any order: a redaction strips the event that is here, and an event
 * that arrives later is stripped by the redactions that are here. Each must be allowed by the state before the later one.
 *
 * Source: "Handling redactions" of the room versions.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import type { Refusal, StateLookup } from "@greenroom/room/RoomVersion"
import { EventStore } from "@greenroom/store/EventStore"
import { Effect } from "effect"
import type { FoundEvents, RoomEvents } from "./RoomEvents.ts"
import type { RoomState } from "./RoomState.ts"

/** The redactions in the room that name each of some events. */
export type NamingRedactions = Map<EventId, ReadonlyArray<Event>>

export const makeReceivedRedactions = Effect.fnUntraced(function* ({ known }: RoomEvents) {
  const events = yield* EventStore

  /** The state events that replaced a redacted one, without the copy of its content. */
  const replacementsOf = Effect.fnUntraced(function* (room: RoomState, target: Event) {
    if (target.state_key === undefined) return []
    const [stored] = yield* events.byIds([target.event_id])
    const inLine = [...room.recent.values()].filter((knownEvent) => knownEvent.event.replaces_state === target.event_id)
    const replacements = [
      ...(stored === undefined ? [] : yield* events.replacementsOf(stored)),
      ...inLine.map((knownEvent) => knownEvent.event)
    ]
    const prev_content = room.version.redact(target).content
    return replacements
      .filter((replacement) => replacement.unsigned?.prev_content !== undefined)
      .map((replacement): Event => ({ ...replacement, unsigned: { ...replacement.unsigned, prev_content } }))
  })

  /** The redactions in the room that name the events. */
  const earlierRedactions = Effect.fnUntraced(function* (room: RoomState, ids: ReadonlyArray<EventId>) {
    const found = new Map<EventId, Array<Event>>(ids.map((id) => [id, []]))
    for (const { event, roomNid } of yield* events.redactionsOf(ids)) {
      if (roomNid === room.roomNid && event.redacts !== undefined) found.get(event.redacts)?.push(event)
    }
    return found
  })

  /** The events that a redaction strips, and the earlier redactions that strip this event. */
  const redactionsBy = Effect.fnUntraced(function* (
    room: RoomState,
    event: Event,
    lookup: StateLookup,
    surveyed: NamingRedactions | undefined
  ) {
    const strip = (target: Event, redaction: Event): Event => ({
      ...room.version.redact(target),
      unsigned: { redacted_because: redaction.event_id }
    })
    const stripped: Array<Event> = []
    if (event.type === "m.room.redaction" && event.redacts !== undefined) {
      const target = (yield* known(room, [event.redacts])).get(event.redacts)?.event
      if (target !== undefined && room.version.authoriseRedaction(event, target, lookup) === undefined) {
        stripped.push(strip(target, event), ...(yield* replacementsOf(room, target)))
      }
    }
    const earlier = surveyed ?? (yield* earlierRedactions(room, [event.event_id]))
    for (const redaction of earlier.get(event.event_id) ?? []) {
      if (room.version.authoriseRedaction(redaction, event, lookup) === undefined)
        stripped.push(strip(event, redaction))
    }
    return stripped
  })

  /** A redaction that names an event of another room: it never has an effect, and is not shown. */
  const misdirected = ({ redacts, type }: Event, { foreign }: FoundEvents): Refusal | undefined =>
    type === "m.room.redaction" && redacts !== undefined && foreign.has(redacts)
      ? { rule: "The redacted event is of another room" }
      : undefined

  return { earlierRedactions, redactionsBy, misdirected }
})

export type ReceivedRedactions = Effect.Success<ReturnType<typeof makeReceivedRedactions>>
