/**
 * Aggregations bundled with events: their newest edit, references to them, and the summary of the thread that they begin.
 *
 * Source: "Aggregations of child events" of the client-server specification.
 */
import { toClientServerEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { type Aggregation, type Parent, RelationStore } from "@greenroom/store/RelationStore"
import { Effect } from "effect"
import { makeHistoryVisibility } from "../HistoryVisibility.ts"

/** The edit that counts: the one that was made last, by the clock of its server. */
const latestEdit = (edits: ReadonlyArray<Event>): Event | undefined =>
  edits.reduce<Event | undefined>((latest, edit) => {
    if (latest === undefined || edit.origin_server_ts > latest.origin_server_ts) return edit
    return edit.origin_server_ts === latest.origin_server_ts && edit.event_id > latest.event_id ? edit : latest
  }, undefined)

const bundle = ({ edits, references, thread }: Aggregation, now: number): JsonObject => {
  const edit = latestEdit(edits)
  const relations: Record<string, unknown> = {}
  if (edit !== undefined) relations["m.replace"] = toClientServerEvent(edit, { now })
  if (references.length > 0) relations["m.reference"] = { chunk: references.map((event_id) => ({ event_id })) }
  if (thread !== undefined) {
    relations["m.thread"] = {
      latest_event: toClientServerEvent(thread.latest, { now }),
      count: thread.count,
      current_user_participated: thread.participated
    }
  }
  return relations as JsonObject
}

const childrenOf = ({ edits, thread }: Aggregation): ReadonlyArray<Event> =>
  thread === undefined ? edits : [...edits, thread.latest]

/** A redacted edit does not count. */
const withChildren = (aggregation: Aggregation, shown: ReadonlyMap<EventId, Event>): Aggregation => {
  const { edits, thread } = aggregation
  return {
    ...aggregation,
    edits: edits.filter((edit) => shown.get(edit.event_id) === edit),
    ...(thread === undefined
      ? {}
      : { thread: { ...thread, latest: shown.get(thread.latest.event_id) ?? thread.latest } })
  }
}

export const makeAggregations = Effect.gen(function* () {
  const store = yield* RelationStore
  const { pruneErased } = yield* makeHistoryVisibility

  /** The content of erased users is for those who saw it before, in bundles as in timelines. */
  const pruned = Effect.fnUntraced(function* (
    userId: UserId,
    parents: ReadonlyArray<Parent>,
    found: ReadonlyMap<EventId, Aggregation>
  ) {
    const shown = new Map<EventId, Event>()
    for (const roomNid of new Set(parents.map(({ roomNid }) => roomNid))) {
      const children = parents.flatMap(({ event, roomNid: of }) => {
        const aggregation = of === roomNid ? found.get(event.event_id) : undefined
        return aggregation === undefined ? [] : childrenOf(aggregation).map((event) => ({ event }))
      })
      const kept = yield* pruneErased({ userId, roomNid, isJoined: false, leftAt: undefined }, children)
      for (const { event } of kept) shown.set(event.event_id, event)
    }
    return new Map([...found].map(([id, aggregation]) => [id, withChildren(aggregation, shown)]))
  })

  return {
    /** The aggregations of each event that has some. State events and edits have none. */
    of: Effect.fnUntraced(function* (
      userId: UserId,
      events: ReadonlyArray<Parent>,
      now: number
    ): Effect.fn.Return<ReadonlyMap<EventId, JsonObject>> {
      const parents = events.filter(
        ({ event: { state_key, unsigned } }) => state_key === undefined && !unsigned?.redacted_because
      )
      const stored = yield* store.aggregations(userId, parents)
      const found = stored.size === 0 ? stored : yield* pruned(userId, parents, stored)
      return new Map([...found].map(([id, aggregation]) => [id, bundle(aggregation, now)]))
    })
  }
})

export type Aggregations = Effect.Success<typeof makeAggregations>
