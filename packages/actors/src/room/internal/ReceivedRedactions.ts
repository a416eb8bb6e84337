/**
 * Redactions and the events that they name may arrive in any order: a redaction strips the event that is here, and an event
 * that arrives later is stripped by the redactions that are here. The redaction must be allowed by the state before it: one that was here
 * first is judged by its auth events.
 *
 * From room version 3 on a redaction that strips nothing is withheld from clients, which would strip the event on their own. One that
 * strips an event that arrives later is placed again, behind the event: clients receive it then.
 *
 * Source: "Handling redactions" of the room versions.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { lookupIn, type Refusal, type RoomVersion, type StateLookup } from "@greenroom/room/RoomVersion"
import { EventStatus } from "@greenroom/store/EventLog"
import { EventStore } from "@greenroom/store/EventStore"
import { Effect } from "effect"
import { authIdsOf } from "./AuthContext.ts"
import type { FoundEvents, RoomEvents } from "./RoomEvents.ts"
import type { KnownEvent, RoomState } from "./RoomState.ts"

/** The redactions in the room that name each of some events. */
export type NamingRedactions = Map<EventId, ReadonlyArray<KnownEvent>>

/** What redactions do when an event is placed. */
export interface RedactionEffects {
  /** The events that are stripped, in their redacted form. */
  readonly stripped: ReadonlyArray<Event>
  /** The event is a redaction that strips nothing. */
  readonly isIdle: boolean
  /** Withheld redactions that strip the event. */
  readonly released: ReadonlyArray<KnownEvent>
}

/** The event as a redaction leaves it. */
export const strippedBy = ({ redact }: RoomVersion, target: Event, redaction: Event): Event => ({
  ...redact(target),
  unsigned: { redacted_because: redaction.event_id }
})

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

  /** The redactions in the room that name the events: a bounded number, of each sender the newest. */
  const earlierRedactions = Effect.fnUntraced(function* (room: RoomState, ids: ReadonlyArray<EventId>) {
    const found = new Map<EventId, Array<KnownEvent>>(ids.map((id) => [id, []]))
    for (const stored of yield* events.redactionsOf(room.roomNid, ids)) {
      const { event, position, status, stateAfter: after, stateBefore: before } = stored
      if (event.redacts === undefined) continue
      found.get(event.redacts)?.push({ event, nid: position.nid, status, before, after })
    }
    return found
  })

  /** The redactions, among those that are here, that may strip an event. */
  const effectiveOn = Effect.fnUntraced(function* (
    room: RoomState,
    target: Event,
    redactions: ReadonlyArray<KnownEvent>
  ) {
    if (redactions.length === 0) return redactions
    const authorising = yield* known(
      room,
      redactions.flatMap(({ event }) => authIdsOf(room, event))
    )
    return redactions.filter(({ event }) => {
      const state = lookupIn(authIdsOf(room, event).flatMap((id) => authorising.get(id)?.event ?? []))
      return room.version.authoriseRedaction(event, target, state) === undefined
    })
  })

  /** The events that a redaction strips, and the earlier redactions that strip this event. */
  const redactionsBy = Effect.fnUntraced(function* (
    room: RoomState,
    event: Event,
    lookup: StateLookup,
    surveyed: NamingRedactions | undefined
  ) {
    const { version } = room
    const stripped: Array<Event> = []
    if (event.type === "m.room.redaction" && event.redacts !== undefined) {
      const target = (yield* known(room, [event.redacts])).get(event.redacts)?.event
      if (target !== undefined && version.authoriseRedaction(event, target, lookup) === undefined) {
        stripped.push(strippedBy(version, target, event), ...(yield* replacementsOf(room, target)))
      }
    }
    const isIdle = event.type === "m.room.redaction" && event.state_key === undefined && stripped.length === 0
    const earlier = surveyed ?? (yield* earlierRedactions(room, [event.event_id]))
    const effective = yield* effectiveOn(room, event, earlier.get(event.event_id) ?? [])
    for (const redaction of effective) stripped.push(strippedBy(version, event, redaction.event))
    const released = effective.filter(({ status }) => status === EventStatus.withheld)
    return { stripped, isIdle, released } satisfies RedactionEffects
  })

  /** A redaction that names an event of another room: it never has an effect, and is not shown. */
  const misdirected = ({ redacts, type }: Event, { foreign }: FoundEvents): Refusal | undefined =>
    type === "m.room.redaction" && redacts !== undefined && foreign.has(redacts)
      ? { rule: "The redacted event is of another room" }
      : undefined

  return { earlierRedactions, redactionsBy, replacementsOf, misdirected }
})

export type ReceivedRedactions = Effect.Success<ReturnType<typeof makeReceivedRedactions>>
