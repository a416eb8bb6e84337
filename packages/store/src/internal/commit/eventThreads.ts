/**
 * The threads of the events of a batch. An event is in a thread by its own `m.thread` relation, or by that of an event that it relates to:
 * a reaction to an edit of an event in a thread is in the thread, too. An event that comes before the one that it relates to counts as one
 * of the main timeline.
 *
 * Source: "Threaded read receipts" of the client-server specification.
 */
import { maxThreadHops, type Relation, relationOf, threadBy } from "@greenroom/protocol/client-server/Relation"
import type { EventId } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import { bigints, texts } from "../../PgArrays.ts"
import type { RoomCommit } from "../../RoomCommit.ts"

/** The root of the thread of an event of a room; undefined for the main timeline. */
export type ThreadOf = (roomNid: number, eventId: EventId) => EventId | undefined

interface Row {
  readonly room_nid: bigint
  readonly event_id: string
  readonly relates_to: string
  readonly rel_type: string
}

const keyOf = (roomNid: number, eventId: string) => `${roomNid} ${eventId}`

/** Reads the relations of stored events to which events of the batch relate, if there are any. */
export const threadsOf = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  commits: ReadonlyArray<RoomCommit>
): Effect.fn.Return<ThreadOf, SqlError.SqlError> {
  const relations = new Map<string, Relation>()
  const parents = new Map<string, { readonly roomNid: number; readonly eventId: EventId }>()
  for (const { events, roomNid } of commits) {
    for (const { event } of events) {
      const relation = relationOf(event)
      if (relation === undefined) continue
      relations.set(keyOf(roomNid, event.event_id), relation)
      if (relation.relType === "m.thread") continue
      parents.set(keyOf(roomNid, relation.eventId), { roomNid, eventId: relation.eventId })
    }
  }
  if (parents.size > 0) {
    const wanted = [...parents.values()]
    const rows = yield* sql<Row>`
      WITH RECURSIVE related AS (
        SELECT room_nid, events.event_id, relates_to, rel_type, 1 AS hops
        FROM unnest(
          ${bigints(wanted.map(({ roomNid }) => roomNid))}::bigint[], ${texts(wanted.map(({ eventId }) => eventId))}::text[]
        ) AS parent (room_nid, event_id) JOIN events USING (room_nid, event_id)
        WHERE rel_type IS NOT NULL
        UNION ALL
        SELECT events.room_nid, events.event_id, events.relates_to, events.rel_type, hops + 1
        FROM related JOIN events ON events.event_id = related.relates_to AND events.room_nid = related.room_nid
        WHERE related.rel_type <> 'm.thread' AND events.rel_type IS NOT NULL
          AND hops < ${maxThreadHops - 1})
      SELECT room_nid, event_id, relates_to, rel_type FROM related`
    for (const row of rows) {
      relations.set(keyOf(Number(row.room_nid), row.event_id), {
        relType: row.rel_type,
        eventId: row.relates_to as EventId
      })
    }
  }
  return (roomNid, eventId) => threadBy((id) => relations.get(keyOf(roomNid, id)), eventId)
})
