/**
 * Relations of events: children of an event, threads of a room, and aggregations.
 *
 * An error of the database is a defect. Source: "Forming relationships between events" and "Threading" of the client-server
 * specification.
 */
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
}

/** The aggregations of the events that relate to an event. */
export interface Aggregation {
  readonly parent: EventId
  /** The newest edits by the sender of the event, newest first. */
  readonly edits: ReadonlyArray<Event>
  /** The events that refer to it, oldest first. */
  readonly references: ReadonlyArray<EventId>
  readonly thread?: {
    readonly latest: Event
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

/** A possible parent of relations, with the number of its room. */
export interface Parent {
  readonly event: Event
  readonly roomNid: number
}

export interface Thread {
  readonly root: EventId
  /** The position of the newest event of the thread. */
  readonly latest: StreamPosition
}

/** The most edits, and references, of one event that are read. */
const maxEdits = 20
const maxReferences = 100

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

export class RelationStore extends Context.Service<
  RelationStore,
  {
    readonly children: (query: ChildrenQuery) => Effect.Effect<ReadonlyArray<StreamedEvent>>
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
    /** The aggregations of the events that have any. The events may be of several rooms. */
    readonly aggregations: (
      userId: UserId,
      events: ReadonlyArray<Parent>
    ) => Effect.Effect<ReadonlyMap<EventId, Aggregation>>
    /** Threads of a room by their newest event, newest first; those with an event by the user, or all. */
    readonly threads: (
      roomNid: number,
      options: {
        readonly participant?: UserId | undefined
        readonly before: StreamPosition
        readonly limit: number
      }
    ) => Effect.Effect<ReadonlyArray<Thread>>
  }
>()("greenroom/store/RelationStore") {
  static readonly layer = Layer.effect(
    RelationStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const none = sql.literal("")

      const children = (query: ChildrenQuery) => {
        const order = sql.literal(query.direction === "f" ? "ASC" : "DESC")
        return sql<Row>`
          SELECT xid::text AS xid, nid, room_nid, body FROM events
          WHERE relates_to = ANY (${texts(query.parents)}::text[]) AND rel_type IS NOT NULL
            AND room_nid = ${query.roomNid} AND status <= 1
            AND (xid, nid) > ${positionSql(sql, query.after)} AND (xid, nid) <= ${positionSql(sql, query.upTo)}
            ${query.relType === undefined ? none : sql`AND rel_type = ${query.relType}`}
            ${query.eventType === undefined ? none : sql`AND type = ${query.eventType}`}
          ORDER BY events.xid ${order}, events.nid ${order} LIMIT ${query.limit}`.pipe(
          Effect.map((rows) => rows.map(toStreamed)),
          Effect.orDie
        )
      }

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
        ${texts(parents.map(({ event }) => event.type))}::text[]
      ) AS parent (id, room_nid, sender, type)`

      const edits = (parents: ReadonlyArray<Parent>) => sql<{ parent: string; body: string }>`
        SELECT parent.id AS parent, edit.body
        FROM ${parentRows(parents)}
        CROSS JOIN LATERAL (
          SELECT body FROM events
          WHERE relates_to = parent.id AND rel_type = 'm.replace' AND events.sender = parent.sender
            AND events.type = parent.type AND state_key IS NULL AND events.room_nid = parent.room_nid AND status <= 1
          ORDER BY xid DESC, nid DESC LIMIT ${maxEdits}
        ) AS edit`

      const references = (parents: ReadonlyArray<Parent>) => sql<{ parent: string; event_id: string }>`
        SELECT parent.id AS parent, reference.event_id
        FROM ${parentRows(parents)}
        CROSS JOIN LATERAL (
          SELECT event_id FROM events
          WHERE relates_to = parent.id AND rel_type = 'm.reference' AND events.room_nid = parent.room_nid AND status <= 1
          ORDER BY xid, nid LIMIT ${maxReferences}
        ) AS reference`

      const threadsOf = (userId: UserId, parents: ReadonlyArray<Parent>) => sql<{
        parent: string
        count: number
        participated: boolean
        body: string
      }>`
        SELECT parent.id AS parent, thread.count, thread.participated, latest.body
        FROM ${parentRows(parents)}
        CROSS JOIN LATERAL (
          SELECT count(*)::integer AS count, bool_or(events.sender = ${userId}) AS participated FROM events
          WHERE events.room_nid = parent.room_nid AND thread_id = parent.id AND status <= 1
        ) AS thread
        CROSS JOIN LATERAL (
          SELECT body FROM events
          WHERE events.room_nid = parent.room_nid AND thread_id = parent.id AND status <= 1
          ORDER BY xid DESC, nid DESC LIMIT 1
        ) AS latest`

      /** The events, among the given, that have relations, and the types of these. */
      const relatedTo = (parents: ReadonlyArray<Parent>) => sql<{ id: string; types: ReadonlyArray<string> }>`
        SELECT relates_to AS id, array_agg(DISTINCT rel_type) AS types FROM events
        WHERE relates_to = ANY (${texts(parents.map(({ event }) => event.event_id))}::text[])
          AND rel_type IN ('m.replace', 'm.reference', 'm.thread') AND status <= 1
        GROUP BY relates_to`

      const aggregations = Effect.fnUntraced(function* (userId: UserId, parents: ReadonlyArray<Parent>) {
        const found = new Map<EventId, Aggregation>()
        if (parents.length === 0) return found
        const related = yield* relatedTo(parents)
        if (related.length === 0) return found
        const typesOf = new Map(related.map(({ id, types }) => [id, types]))
        const having = (type: string) => parents.filter(({ event }) => typesOf.get(event.event_id)?.includes(type))
        const [edited, referred, threaded] = [having("m.replace"), having("m.reference"), having("m.thread")]
        const editRows = yield* edited.length === 0 ? Effect.succeed([]) : edits(edited)
        const referenceRows = yield* referred.length === 0 ? Effect.succeed([]) : references(referred)
        const threadRows = yield* threaded.length === 0 ? Effect.succeed([]) : threadsOf(userId, threaded)
        const editsOf = Map.groupBy(editRows, (row) => row.parent)
        const referencesOf = Map.groupBy(referenceRows, (row) => row.parent)
        const threadOf = new Map(threadRows.map((row) => [row.parent, row]))
        for (const { id } of related) {
          const parent = id as EventId
          const thread = threadOf.get(id)
          found.set(parent, {
            parent,
            edits: (editsOf.get(id) ?? []).map((row) => JSON.parse(row.body) as Event),
            references: (referencesOf.get(id) ?? []).map((row) => row.event_id as EventId),
            ...(thread === undefined
              ? {}
              : {
                  thread: {
                    latest: JSON.parse(thread.body) as Event,
                    count: thread.count,
                    participated: thread.participated
                  }
                })
          })
        }
        return found
      }, Effect.orDie)

      const threads = (
        roomNid: number,
        options: {
          readonly participant?: UserId | undefined
          readonly before: StreamPosition
          readonly limit: number
        }
      ) =>
        sql<{ root: string; xid: string; nid: bigint }>`
          SELECT newest.thread_id AS root, newest.xid::text AS xid, newest.nid FROM (
            SELECT DISTINCT ON (thread_id) thread_id, xid, nid FROM events
            WHERE room_nid = ${roomNid} AND thread_id IS NOT NULL AND status <= 1
            ORDER BY thread_id, xid DESC, nid DESC
          ) AS newest JOIN events AS root ON root.event_id = newest.thread_id AND root.room_nid = ${roomNid}
          WHERE (newest.xid, newest.nid) < ${positionSql(sql, options.before)} AND root.status <= 1
            ${
              options.participant === undefined
                ? none
                : sql`AND (root.sender = ${options.participant} OR EXISTS (
                    SELECT 1 FROM events own
                    WHERE own.room_nid = ${roomNid} AND own.thread_id = newest.thread_id AND own.status <= 1
                      AND own.sender = ${options.participant}))`
            }
          ORDER BY newest.xid DESC, newest.nid DESC LIMIT ${options.limit}`.pipe(
          Effect.map((rows) =>
            rows.map(
              (row): Thread => ({ root: row.root as EventId, latest: { xid: Number(row.xid), nid: Number(row.nid) } })
            )
          ),
          Effect.orDie
        )

      return RelationStore.of({ children, related, isAnnotated, aggregations, threads })
    })
  )
}
