/**
 * Redactions where history is back-filled: those that are here strip the events that are fetched, and those that are fetched strip
 * what is here. The state before an event of history is not known as a whole, so a redaction is judged by its auth events.
 *
 * Source: "Handling redactions" of the room versions.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { lookupIn } from "@greenroom/room/RoomVersion"
import { Effect } from "effect"
import { authIdsOf } from "./AuthContext.ts"
import { isWithheld } from "./PlacementPlans.ts"
import { strippedBy } from "./ReceivedRedactions.ts"
import type { RoomGraph } from "./RoomGraph.ts"
import type { RoomState } from "./RoomState.ts"

/** What redactions do as history is stored. */
interface HistoryRedactions {
  /** The events that are stored stripped, by their IDs. */
  readonly stripped: ReadonlyMap<EventId, Event>
  /** Stored events, in their redacted form. */
  readonly others: ReadonlyArray<Event>
  /** The redactions that strip nothing, and that clients do not receive. */
  readonly withheld: ReadonlySet<EventId>
}

export const makeHistoryRedactions = ({ earlierRedactions, known, replacementsOf }: RoomGraph) =>
  /** What the redactions among `events`, and those that are here, do to these and to what is stored. */
  Effect.fnUntraced(function* (room: RoomState, events: ReadonlyArray<Event>) {
    const { version } = room
    const byId = new Map(events.map((event) => [event.event_id, event]))
    const earlier = yield* earlierRedactions(room, [...byId.keys()])
    const own = events.filter(({ state_key, type }) => type === "m.room.redaction" && state_key === undefined)
    const redactions = [...[...earlier.values()].flat().map(({ event }) => event), ...own]
    const found = yield* known(
      room,
      redactions.flatMap((redaction) => [
        ...authIdsOf(room, redaction),
        ...(redaction.redacts === undefined ? [] : [redaction.redacts])
      ])
    )
    const bodyOf = (id: EventId): Event | undefined => byId.get(id) ?? found.get(id)?.event
    const stripped = new Map<EventId, Event>()
    const others = new Map<EventId, Event>()
    const withheld = new Set<EventId>()
    for (const redaction of redactions) {
      const target = redaction.redacts === undefined ? undefined : bodyOf(redaction.redacts)
      const state = lookupIn(authIdsOf(room, redaction).flatMap((id) => bodyOf(id) ?? []))
      if (target === undefined || version.authoriseRedaction(redaction, target, state) !== undefined) {
        if (isWithheld(room, redaction)) withheld.add(redaction.event_id)
        continue
      }
      const result = strippedBy(version, target, redaction)
      if (byId.has(target.event_id)) stripped.set(target.event_id, result)
      if (!found.has(target.event_id) || target.unsigned?.redacted_because !== undefined) continue
      others.set(target.event_id, result)
      for (const replacement of yield* replacementsOf(room, target)) others.set(replacement.event_id, replacement)
    }
    return { stripped, others: [...others.values()], withheld } satisfies HistoryRedactions
  })
