/**
 * Aggregations of events: their edits, the events that refer to them, and their threads. Used by `RelationStore`.
 *
 * Source: "Aggregations of child events" of the client-server specification.
 */
import { relationOf } from "@greenroom/protocol/client-server/Relation"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import type { SqlClient, Statement } from "effect/sql"
import { readWhole, type SizedRow, sizedBody } from "../LargeReads.ts"
import { type EventRow, type StreamedEvent, toStreamedEvent } from "../LogSlice.ts"
import { bigints, texts } from "../PgArrays.ts"
import type { StreamPosition } from "../StreamToken.ts"

/** The aggregations of the events that relate to an event. */
export interface Aggregation {
  /** The newest edits by the sender of the event, newest first. */
  readonly edits: ReadonlyArray<StreamedEvent>
  /** The events that refer to it, oldest first. */
  readonly references: ReadonlyArray<EventId>
  readonly thread?: {
    readonly latest: StreamedEvent
    readonly count: number
    readonly participated: boolean
  }
}

/** An event whose aggregations are wanted: of the related events up to a position. */
export interface Parent {
  readonly event: Event
  readonly roomNid: number
  readonly upTo: StreamPosition
}

/** The most edits, and references, of one event that are read. */
const maxEdits = 20
const maxReferences = 100
/** How many bytes the edits of one event may have beside the newest one. */
const maxEditBytes = 16 * 1024
/** How many bytes all edits of an answer may have, and all newest events of threads. The last events of the answer lack theirs then. */
const maxBundleBytes = 4 * 1024 * 1024

/** Redacted events and edits cannot be edited. The threads and references of redacted events remain. */
const isEditable = (event: Event): boolean =>
  event.unsigned?.redacted_because === undefined && relationOf(event)?.relType !== "m.replace"

/** `aggregations` of `RelationStore`. */
export const makeAggregations = (sql: SqlClient.SqlClient) => {
  const none = sql.literal("")

  /** The events as rows, which are looked up one by one. */
  const parentRows = (parents: ReadonlyArray<Parent>) => sql`unnest(
    ${texts(parents.map(({ event }) => event.event_id))}::text[],
    ${bigints(parents.map(({ roomNid }) => roomNid))}::bigint[],
    ${texts(parents.map(({ event }) => event.sender))}::text[],
    ${texts(parents.map(({ event }) => event.type))}::text[],
    ${texts(parents.map(({ upTo }) => String(upTo.xid)))}::text[],
    ${bigints(parents.map(({ upTo }) => upTo.nid))}::bigint[]
  ) WITH ORDINALITY AS parent (id, room_nid, sender, type, up_to_xid, up_to_nid, place)`

  /** Related events that may be in the aggregation of the parent of the outer query. */
  const known = (ignored: ReadonlyArray<UserId>) => sql`
    events.room_nid = parent.room_nid AND status <= 1
    AND (events.xid, events.nid) <= (parent.up_to_xid::xid8, parent.up_to_nid)
    ${ignored.length === 0 ? none : sql`AND events.sender <> ALL (${texts(ignored)}::text[])`}`

  // The newest edits of all events come before the second ones of any.
  const edits = (parents: ReadonlyArray<Parent>, ignored: ReadonlyArray<UserId>) => (limit: Statement.Fragment) =>
    sql<EventRow & SizedRow & { parent: string }>`
    SELECT sized.parent, sized.xid::text AS xid, sized.nid, sized.room_nid, ${sizedBody(sql)} FROM (
      SELECT parent.id AS parent, parent.room_nid, edit.xid, edit.nid, edit.body, sum(octet_length(edit.body)) OVER (
        ORDER BY edit.number, parent.place ROWS UNBOUNDED PRECEDING) AS bytes
      FROM ${parentRows(parents)}
      CROSS JOIN LATERAL (
        SELECT * FROM (
          SELECT newest.*, row_number() OVER (ORDER BY xid DESC, nid DESC) AS number,
            sum(octet_length(body)) OVER (ORDER BY xid DESC, nid DESC ROWS UNBOUNDED PRECEDING) AS bytes
          FROM (
            SELECT xid, nid, body FROM events
            WHERE relates_to = parent.id AND rel_type = 'm.replace' AND events.sender = parent.sender
              AND events.type = parent.type AND state_key IS NULL AND ${known(ignored)}
            ORDER BY events.xid DESC, events.nid DESC LIMIT ${maxEdits}
          ) AS newest
        ) AS numbered WHERE number = 1 OR bytes <= ${maxEditBytes}
      ) AS edit ORDER BY bytes ${limit}
    ) AS sized WHERE sized.bytes <= ${maxBundleBytes}
    ORDER BY sized.bytes`

  const references = (parents: ReadonlyArray<Parent>, ignored: ReadonlyArray<UserId>) => sql<{
    parent: string
    event_id: string
  }>`
    SELECT parent.id AS parent, reference.event_id
    FROM ${parentRows(parents)}
    CROSS JOIN LATERAL (
      SELECT event_id FROM events
      WHERE relates_to = parent.id AND rel_type = 'm.reference' AND ${known(ignored)}
      ORDER BY xid, nid LIMIT ${maxReferences}
    ) AS reference`

  /** The events in the thread of the parent of the outer query. */
  const inThread = sql`
    events.room_nid = parent.room_nid AND thread_id = parent.id AND rel_type = 'm.thread' AND status <= 1`
  const upTo = sql`(parent.up_to_xid::xid8, parent.up_to_nid)`

  /** How many events of the thread are by these users. OFFSET keeps PostgreSQL from reading all events of the thread by another index. */
  const countBy = (senders: ReadonlyArray<UserId>) => sql`(
    SELECT count(*) FROM unnest(${texts(senders)}::text[]) AS given (sender)
    CROSS JOIN LATERAL (
      SELECT room_nid, xid, nid FROM events
      WHERE thread_id = parent.id AND rel_type = 'm.thread' AND status <= 1 AND events.sender = given.sender OFFSET 0
    ) AS theirs
    WHERE theirs.room_nid = parent.room_nid AND (theirs.xid, theirs.nid) <= ${upTo})`

  const threadsOf =
    (userId: UserId, parents: ReadonlyArray<Parent>, ignored: ReadonlyArray<UserId>) => (limit: Statement.Fragment) =>
      sql<EventRow & SizedRow & { parent: string; count: number; participated: boolean }>`
    SELECT sized.parent, sized.count, sized.participated, sized.xid::text AS xid, sized.nid, sized.room_nid, ${sizedBody(sql)}
    FROM (
      SELECT parent.id AS parent, parent.room_nid,
        (threads.events - (SELECT count(*) FROM events WHERE ${inThread} AND (events.xid, events.nid) > ${upTo})
          ${ignored.length === 0 ? none : sql`- ${countBy(ignored)}`})::integer AS count,
        parent.sender = ${userId} OR ${countBy([userId])} > 0 AS participated,
        latest.*, sum(octet_length(latest.body)) OVER (ORDER BY parent.place ROWS UNBOUNDED PRECEDING) AS bytes
      FROM ${parentRows(parents)}
      JOIN threads ON threads.root = parent.id AND threads.room_nid = parent.room_nid
      CROSS JOIN LATERAL (
        SELECT xid, nid, body FROM events
        WHERE thread_id = parent.id AND rel_type = 'm.thread' AND ${known(ignored)}
        ORDER BY events.xid DESC, events.nid DESC LIMIT 1
      ) AS latest ORDER BY bytes ${limit}
    ) AS sized WHERE sized.bytes <= ${maxBundleBytes} ORDER BY sized.bytes`

  return Effect.fnUntraced(function* (
    userId: UserId,
    parents: ReadonlyArray<Parent>,
    types: ReadonlyMap<EventId, ReadonlyArray<string>>,
    ignored: ReadonlyArray<UserId>
  ) {
    const having = (type: string) => parents.filter(({ event }) => types.get(event.event_id)?.includes(type))
    const edited = having("m.replace").filter(({ event }) => isEditable(event))
    const [referred, threaded] = [having("m.reference"), having("m.thread")]
    const editRows = yield* edited.length === 0 ? Effect.succeed([]) : readWhole(sql, edits(edited, ignored))
    const referenceRows = yield* referred.length === 0 ? Effect.succeed([]) : references(referred, ignored)
    const threadRows = yield* threaded.length === 0
      ? Effect.succeed([])
      : readWhole(sql, threadsOf(userId, threaded, ignored))
    const editsOf = Map.groupBy(editRows, (row) => row.parent)
    const referencesOf = Map.groupBy(referenceRows, (row) => row.parent)
    const threadOf = new Map(threadRows.map((row) => [row.parent, row]))
    const found = new Set([...editsOf.keys(), ...referencesOf.keys(), ...threadOf.keys()])
    return new Map(
      Array.from(found, (id): [EventId, Aggregation] => {
        const thread = threadOf.get(id)
        return [
          id as EventId,
          {
            edits: (editsOf.get(id) ?? []).map(toStreamedEvent),
            references: (referencesOf.get(id) ?? []).map((row) => row.event_id as EventId),
            ...(thread === undefined
              ? {}
              : {
                  thread: {
                    latest: toStreamedEvent(thread),
                    count: thread.count,
                    participated: thread.participated
                  }
                })
          }
        ]
      })
    )
  }, Effect.orDie)
}
