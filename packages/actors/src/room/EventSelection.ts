/**
 * Selects the events of a room that pass a client's filter: by what the events say, and by what relates to them.
 *
 * Source: "Filtering" and "Forming relationships between events" of the client-server specification.
 */
import { compileFilter, isEverything, type RoomEventFilter } from "@greenroom/protocol/client-server/Filter"
import type { Event } from "@greenroom/protocol/Event"
import { RelationStore } from "@greenroom/store/RelationStore"
import { Effect } from "effect"

/** The events that a filter selects. */
export interface EventSelection {
  /** Every event passes. */
  readonly isEverything: boolean
  /** The events of one room that pass, in the given order. */
  readonly of: <A extends { readonly event: Event }>(
    roomNid: number,
    entries: ReadonlyArray<A>
  ) => Effect.Effect<ReadonlyArray<A>>
}

export const makeEventSelections = Effect.gen(function* () {
  const relations = yield* RelationStore

  return (filter: RoomEventFilter | null | undefined): EventSelection => {
    const matches = compileFilter(filter)
    const relTypes = filter?.related_by_rel_types ?? undefined
    const senders = filter?.related_by_senders ?? undefined
    const isRelational = relTypes !== undefined || senders !== undefined
    return {
      isEverything: isEverything(matches) && !isRelational,
      of: (roomNid, entries) => {
        const passed = isEverything(matches) ? entries : entries.filter(({ event }) => matches(event))
        if (!isRelational || passed.length === 0) return Effect.succeed(passed)
        const ids = passed.map(({ event }) => event.event_id)
        return Effect.map(relations.related(roomNid, ids, { relTypes, senders }), (related) =>
          passed.filter(({ event }) => related.has(event.event_id))
        )
      }
    }
  }
})
