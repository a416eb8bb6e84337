/**
 * Relations of events: children of an event, threads of a room, and aggregations.
 *
 * An error of the database is a defect. Source: "Forming relationships between events" and "Threading" of the client-server
 * specification.
 */
import { relationOf } from "@greenroom/protocol/client-server/Relation"
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject } from "@greenroom/protocol/Json"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
import { positionSql } from "./internal/positionSql.ts"
import type { StreamedEvent } from "./LogSlice.ts"
import { bigints, texts } from "./PgArrays.ts"
import type { StreamPosition } from "./StreamToken.ts"

export interface ChildrenQuery {
  readonly roomNid: number
  readonly parents: ReadonlyArray<EventId>
  readonly relType?: string | undefined
  readonly eventType?: string | undefined
  readonly after: StreamPosition
  readonly upTo: StreamPosition
  readonly direction: "f" | "b"
  readonly limit: number
  readonly maxBytes: number
}

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

/** An annotation (a reaction) of an event: its sender, type and key. */
export interface Annotation {
  readonly target: EventId
  readonly sender: UserId
  readonly type: string
  readonly key: string
}

/** An event whose aggregations are wanted: of the related events up to a position. */
export interface Parent {
  readonly event: Event
  readonly roomNid: number
  readonly upTo: StreamPosition
}

export interface Thread {
  readonly root: EventId
  /** The position of the newest event of the thread. */
  readonly latest: StreamPosition
  /** Whether the user has sent the root, or an event in the thread. */
  readonly participated: boolean
}

/** The most edits, and references, of one event that are read. */
const maxEdits = 20
const maxReferences = 100
/** How many bytes the edits of one event may have beside the newest one. */
const maxEditBytes = 16 * 1024
/** How many bytes all edits of an answer may have, and all newest events of threads. The last events of the answer lack theirs then. */
const maxBundleBytes = 4 * 1024 * 1024

interface Row {
  readonly xid: string
  readonly nid: bigint
  readonly room_nid: bigint
  readonly body: string
}

const toStreamed = (row: Row): StreamedEvent => ({
  position: { xid: Number(row.xid), nid: Number(row.nid) },
  roomNid: Number(row.room_nid),
  event: JSON.parse(row.body) as Event
})

/** Redacted events and edits cannot be edited. The threads and references of redacted events remain. */
const isEditable = (event: Event): boolean =>
  event.unsigned?.redacted_because === undefined && relationOf(event)?.relType !== "m.replace"

export class RelationStore extends Context.Service<
  RelationStore,
  {
    /** `cut`: `maxBytes` ended the page, which has at least one event, and there are more within `limit`. */
    readonly children: (query: ChildrenQuery) => Effect.Effect<{
      readonly events: ReadonlyArray<StreamedEvent>
      readonly cut: boolean
    }>
    /** The IDs of events that relate to these ones, the oldest. */
    readonly childIds: (
      roomNid: number,
      parents: ReadonlyArray<EventId>,
      limit: number
    ) => Effect.Effect<ReadonlyArray<EventId>>
    /** The events of a room to which an event relates, of one of these relation types, by one of these senders. */
    readonly related: (
      roomNid: number,
      ids: ReadonlyArray<EventId>,
      by: {
        readonly relTypes?: ReadonlyArray<string> | undefined
        readonly senders?: ReadonlyArray<string> | undefined
      }
    ) => Effect.Effect<ReadonlySet<EventId>>
    /** Whether the sender has annotated the event like this, in a room. Redacted annotations do not count. */
    readonly isAnnotated: (roomNid: number, annotation: Annotation) => Effect.Effect<boolean>
    /** Which of the events have events that relate to them, and by which of the types that are bundled. */
    readonly relationTypes: (ids: ReadonlyArray<EventId>) => Effect.Effect<ReadonlyMap<EventId, ReadonlyArray<string>>>
    /**
     * The aggregations of events for a user, who may not see all of them. The events may be of several rooms. Events by `ignored` users
     * are left out.
     */
    readonly aggregations: (
      userId: UserId,
      parents: ReadonlyArray<Parent>,
      types: ReadonlyMap<EventId, ReadonlyArray<string>>,
      ignored: ReadonlyArray<UserId>
    ) => Effect.Effect<ReadonlyMap<EventId, Aggregation>>
    /** Threads of a room whose newest event lies before a position, by that event, newest first. */
    readonly threads: (
      roomNid: number,
      userId: UserId,
      before: StreamPosition,
      limit: number
    ) => Effect.Effect<ReadonlyArray<Thread>>
  }
>()("greenroom/store/RelationStore") {
  static readonly layer = Layer.effect(
    RelationStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const none = sql.literal("")

      const childrenOf = (roomNid: number, parents: ReadonlyArray<EventId>) => sql`
        relates_to = ANY (${texts(parents)}::text[]) AND rel_type IS NOT NULL AND room_nid = ${roomNid} AND status <= 1`

      const children = (query: ChildrenQuery) => {
        const order = sql.literal(query.direction === "f" ? "ASC" : "DESC")
        return sql<Row & { readonly found: bigint }>`
          SELECT xid::text AS xid, nid, room_nid, body, found FROM (
            SELECT page.*, count(*) OVER () AS found, sum(octet_length(body)) OVER (
              ORDER BY xid ${order}, nid ${order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
            FROM (
              SELECT xid, nid, room_nid, body FROM events
              WHERE ${childrenOf(query.roomNid, query.parents)}
                AND (xid, nid) > ${positionSql(sql, query.after)} AND (xid, nid) <= ${positionSql(sql, query.upTo)}
                ${query.relType === undefined ? none : sql`AND rel_type = ${query.relType}`}
                ${query.eventType === undefined ? none : sql`AND type = ${query.eventType}`}
              ORDER BY events.xid ${order}, events.nid ${order} LIMIT ${query.limit}
            ) AS page
          ) AS sized
          WHERE coalesce(bytes_before, 0) < ${query.maxBytes}
          ORDER BY sized.xid ${order}, sized.nid ${order}`.pipe(
          Effect.map((rows) => ({
            events: rows.map(toStreamed),
            cut: rows.length > 0 && rows.length < Number(rows[0]!.found)
          })),
          Effect.orDie
        )
      }

      const childIds = (roomNid: number, parents: ReadonlyArray<EventId>, limit: number) =>
        sql<{ event_id: string }>`
          SELECT event_id FROM events WHERE ${childrenOf(roomNid, parents)}
          ORDER BY events.xid, events.nid LIMIT ${limit}`.pipe(
          Effect.map((rows) => rows.map((row) => row.event_id as EventId)),
          Effect.orDie
        )

      const related = (
        roomNid: number,
        ids: ReadonlyArray<EventId>,
        by: {
          readonly relTypes?: ReadonlyArray<string> | undefined
          readonly senders?: ReadonlyArray<string> | undefined
        }
      ) =>
        sql<{ id: string }>`
          SELECT DISTINCT relates_to AS id FROM events
          WHERE relates_to = ANY (${texts(ids)}::text[]) AND rel_type IS NOT NULL
            AND room_nid = ${roomNid} AND status <= 1
            ${by.relTypes === undefined ? none : sql`AND rel_type = ANY (${texts(by.relTypes)}::text[])`}
            ${by.senders === undefined ? none : sql`AND sender = ANY (${texts(by.senders)}::text[])`}`.pipe(
          Effect.map((rows) => new Set(rows.map((row) => row.id as EventId))),
          Effect.orDie
        )

      /** The key is compared in the text first: a user may have annotated the event with many. */
      const isAnnotated = (roomNid: number, { key, sender, target, type }: Annotation) =>
        sql<{ body: string }>`
          SELECT body FROM events
          WHERE relates_to = ${target} AND rel_type = 'm.annotation' AND room_nid = ${roomNid} AND status <= 1
            AND sender = ${sender} AND type = ${type} AND strpos(body, ${`"key":${JSON.stringify(key)}`}) > 0
          LIMIT ${maxReferences}`.pipe(
          Effect.map((rows) =>
            rows.some(({ body }) => {
              const relation = (JSON.parse(body) as Event).content["m.relates_to"]
              return isJsonObject(relation) && relation.key === key
            })
          ),
          Effect.orDie
        )

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
      const edits = (parents: ReadonlyArray<Parent>, ignored: ReadonlyArray<UserId>) => sql<Row & { parent: string }>`
        SELECT parent, xid::text AS xid, nid, room_nid, body FROM (
          SELECT parent.id AS parent, parent.room_nid, edit.*, parent.place, sum(octet_length(edit.body)) OVER (
            ORDER BY edit.number, parent.place ROWS UNBOUNDED PRECEDING) AS total
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
          ) AS edit
        ) AS sized WHERE total <= ${maxBundleBytes}
        ORDER BY sized.place, sized.number`

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

      /** How many events of the thread are by these users. */
      const countBy = (senders: ReadonlyArray<UserId>) => sql`(
        SELECT count(*) FROM events
        WHERE ${inThread} AND events.sender = ANY (${texts(senders)}::text[]) AND (events.xid, events.nid) <= ${upTo})`

      const threadsOf = (userId: UserId, parents: ReadonlyArray<Parent>, ignored: ReadonlyArray<UserId>) => sql<
        Row & { parent: string; count: number; participated: boolean }
      >`
        SELECT parent, count, participated, xid::text AS xid, nid, room_nid, body FROM (
          SELECT parent.id AS parent, parent.room_nid,
            (threads.events - (SELECT count(*) FROM events WHERE ${inThread} AND (events.xid, events.nid) > ${upTo})
              ${ignored.length === 0 ? none : sql`- ${countBy(ignored)}`})::integer AS count,
            parent.sender = ${userId} OR ${countBy([userId])} > 0 AS participated,
            latest.*, sum(octet_length(latest.body)) OVER (ORDER BY parent.place ROWS UNBOUNDED PRECEDING) AS total
          FROM ${parentRows(parents)}
          JOIN threads ON threads.root = parent.id AND threads.room_nid = parent.room_nid
          CROSS JOIN LATERAL (
            SELECT xid, nid, body FROM events
            WHERE thread_id = parent.id AND rel_type = 'm.thread' AND ${known(ignored)}
            ORDER BY events.xid DESC, events.nid DESC LIMIT 1
          ) AS latest
        ) AS sized WHERE total <= ${maxBundleBytes}`

      /** The events, among the given, that have relations, and the types of these. */
      const relationTypes = (ids: ReadonlyArray<EventId>) =>
        sql<{ id: string; types: ReadonlyArray<string> }>`
          SELECT id, array_agg(DISTINCT type) AS types FROM (
            SELECT relates_to AS id, rel_type AS type FROM events
            WHERE relates_to = ANY (${texts(ids)}::text[]) AND rel_type IN ('m.replace', 'm.reference') AND status <= 1
            UNION ALL
            SELECT root, 'm.thread' FROM threads WHERE root = ANY (${texts(ids)}::text[])
          ) AS related GROUP BY id`.pipe(
          Effect.map((rows) => new Map(rows.map(({ id, types }) => [id as EventId, types]))),
          Effect.orDie
        )

      const aggregations = Effect.fnUntraced(function* (
        userId: UserId,
        parents: ReadonlyArray<Parent>,
        types: ReadonlyMap<EventId, ReadonlyArray<string>>,
        ignored: ReadonlyArray<UserId>
      ) {
        const having = (type: string) => parents.filter(({ event }) => types.get(event.event_id)?.includes(type))
        const edited = having("m.replace").filter(({ event }) => isEditable(event))
        const [referred, threaded] = [having("m.reference"), having("m.thread")]
        const editRows = yield* edited.length === 0 ? Effect.succeed([]) : edits(edited, ignored)
        const referenceRows = yield* referred.length === 0 ? Effect.succeed([]) : references(referred, ignored)
        const threadRows = yield* threaded.length === 0 ? Effect.succeed([]) : threadsOf(userId, threaded, ignored)
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
                edits: (editsOf.get(id) ?? []).map(toStreamed),
                references: (referencesOf.get(id) ?? []).map((row) => row.event_id as EventId),
                ...(thread === undefined
                  ? {}
                  : {
                      thread: {
                        latest: toStreamed(thread),
                        count: thread.count,
                        participated: thread.participated
                      }
                    })
              }
            ]
          })
        )
      }, Effect.orDie)

      const threads = (roomNid: number, userId: UserId, before: StreamPosition, limit: number) =>
        sql<{ root: string; xid: string; nid: bigint; participated: boolean }>`
          SELECT threads.root, threads.xid::text AS xid, threads.nid, root.sender = ${userId} OR EXISTS (
            SELECT FROM events
            WHERE events.room_nid = threads.room_nid AND thread_id = threads.root AND rel_type = 'm.thread'
              AND events.sender = ${userId} AND events.status <= 1
          ) AS participated
          FROM threads JOIN events AS root ON root.event_id = threads.root AND root.room_nid = threads.room_nid
          WHERE threads.room_nid = ${roomNid} AND (threads.xid, threads.nid) < ${positionSql(sql, before)}
            AND root.status <= 1
          ORDER BY threads.xid DESC, threads.nid DESC LIMIT ${limit}`.pipe(
          Effect.map((rows) =>
            rows.map(
              (row): Thread => ({
                root: row.root as EventId,
                latest: { xid: Number(row.xid), nid: Number(row.nid) },
                participated: row.participated
              })
            )
          ),
          Effect.orDie
        )

      return RelationStore.of({ children, childIds, relationTypes, related, isAnnotated, aggregations, threads })
    })
  )
}
