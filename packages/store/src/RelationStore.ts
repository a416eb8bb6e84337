/**
 * Events by what they relate to: children of an event, threads of a room, what is bundled with an event, and what a user
 * has not read yet.
 *
 * An error of the database is a defect. Source: "Forming relationships between events" and "Threading" of the client-server
 * specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient } from "effect/sql"
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

/** What the events that relate to an event add up to. */
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

export interface Thread {
  readonly root: EventId
  /** Where the newest event of the thread stands. */
  readonly latest: StreamPosition
}

/** How far a user has read a room: everywhere, or in its main timeline and threads. */
export interface ReadPosition {
  readonly roomNid: number
  readonly after: StreamPosition
}

export interface UnreadCount {
  readonly roomNid: number
  /** Undefined for the main timeline. */
  readonly threadId: EventId | undefined
  readonly notifications: number
  readonly highlights: number
}

/** How many edits, and references, of one event are looked at. */
const maxEdits = 20
const maxReferences = 100
/** What is unread is counted as far as this. */
const maxCounted = 10_000

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
    /** Those of the events of a room to which an event relates: in one of these ways, by one of these senders. */
    readonly related: (
      roomNid: number,
      ids: ReadonlyArray<EventId>,
      by: {
        readonly relTypes?: ReadonlyArray<string> | undefined
        readonly senders?: ReadonlyArray<string> | undefined
      }
    ) => Effect.Effect<ReadonlySet<EventId>>
    /** Aggregations of those of the events that have any, up to a position. */
    readonly aggregations: (
      userId: UserId,
      events: ReadonlyArray<Event>,
      roomNid: number
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
    /** What other users have sent after positions, up to `upTo`, that notifies the user; by room and thread. */
    readonly unread: (
      userId: UserId,
      rooms: ReadonlyArray<ReadPosition>,
      upTo: StreamPosition
    ) => Effect.Effect<ReadonlyArray<UnreadCount & { readonly newest: StreamPosition }>>
    /** The same within one thread, after a position of its own. */
    readonly unreadInThread: (
      userId: UserId,
      room: ReadPosition & { readonly threadId: EventId | undefined },
      upTo: StreamPosition
    ) => Effect.Effect<UnreadCount>
  }
>()("greenroom/store/RelationStore") {
  static readonly layer = Layer.effect(
    RelationStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const place = ({ nid, xid }: StreamPosition) => sql`(${String(xid)}::xid8, ${String(nid)}::bigint)`
      const none = sql.literal("")

      const children = (query: ChildrenQuery) => {
        const order = sql.literal(query.direction === "f" ? "ASC" : "DESC")
        return sql<Row>`
          SELECT xid::text AS xid, nid, room_nid, body FROM events
          WHERE relates_to = ANY (${texts(query.parents)}::text[]) AND rel_type IS NOT NULL
            AND room_nid = ${query.roomNid} AND status <= 1
            AND (xid, nid) > ${place(query.after)} AND (xid, nid) <= ${place(query.upTo)}
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

      const edits = (events: ReadonlyArray<Event>, roomNid: number) => sql<{ parent: string; body: string }>`
        SELECT parent.id AS parent, edit.body
        FROM unnest(
          ${texts(events.map(({ event_id }) => event_id))}::text[],
          ${texts(events.map(({ sender }) => sender))}::text[],
          ${texts(events.map(({ type }) => type))}::text[]
        ) AS parent (id, sender, type)
        CROSS JOIN LATERAL (
          SELECT body FROM events
          WHERE relates_to = parent.id AND rel_type = 'm.replace' AND events.sender = parent.sender
            AND events.type = parent.type AND state_key IS NULL AND room_nid = ${roomNid} AND status <= 1
          ORDER BY xid DESC, nid DESC LIMIT ${maxEdits}
        ) AS edit`

      const references = (ids: ReadonlyArray<EventId>, roomNid: number) => sql<{ parent: string; event_id: string }>`
        SELECT parent.id AS parent, reference.event_id
        FROM unnest(${texts(ids)}::text[]) AS parent (id)
        CROSS JOIN LATERAL (
          SELECT event_id FROM events
          WHERE relates_to = parent.id AND rel_type = 'm.reference' AND room_nid = ${roomNid} AND status <= 1
          ORDER BY xid, nid LIMIT ${maxReferences}
        ) AS reference`

      const threadsOf = (userId: UserId, ids: ReadonlyArray<EventId>, roomNid: number) => sql<{
        parent: string
        count: number
        participated: boolean
        body: string
      }>`
        SELECT parent.id AS parent, thread.count, thread.participated, latest.body
        FROM unnest(${texts(ids)}::text[]) AS parent (id)
        CROSS JOIN LATERAL (
          SELECT count(*)::integer AS count, bool_or(events.sender = ${userId}) AS participated FROM events
          WHERE room_nid = ${roomNid} AND thread_id = parent.id AND status <= 1
        ) AS thread
        CROSS JOIN LATERAL (
          SELECT body FROM events
          WHERE room_nid = ${roomNid} AND thread_id = parent.id AND status <= 1
          ORDER BY xid DESC, nid DESC LIMIT 1
        ) AS latest`

      const aggregations = Effect.fnUntraced(function* (userId: UserId, events: ReadonlyArray<Event>, roomNid: number) {
        const found = new Map<EventId, Aggregation>()
        if (events.length === 0) return found
        const ids = events.map(({ event_id }) => event_id)
        const related = yield* sql<{ id: string; types: ReadonlyArray<string> }>`
          SELECT relates_to AS id, array_agg(DISTINCT rel_type) AS types FROM events
          WHERE relates_to = ANY (${texts(ids)}::text[]) AND rel_type IN ('m.replace', 'm.reference', 'm.thread')
            AND room_nid = ${roomNid} AND status <= 1
          GROUP BY relates_to`
        if (related.length === 0) return found
        const having = (type: string) =>
          new Set(related.filter(({ types }) => types.includes(type)).map(({ id }) => id as EventId))
        const [edited, referred, threaded] = [having("m.replace"), having("m.reference"), having("m.thread")]
        const editRows = yield* edited.size === 0
          ? Effect.succeed([])
          : edits(
              events.filter(({ event_id }) => edited.has(event_id)),
              roomNid
            )
        const referenceRows = yield* referred.size === 0 ? Effect.succeed([]) : references([...referred], roomNid)
        const threadRows = yield* threaded.size === 0 ? Effect.succeed([]) : threadsOf(userId, [...threaded], roomNid)
        for (const { id } of related) {
          const parent = id as EventId
          const thread = threadRows.find((row) => row.parent === id)
          found.set(parent, {
            parent,
            edits: editRows.filter((row) => row.parent === id).map((row) => JSON.parse(row.body) as Event),
            references: referenceRows.filter((row) => row.parent === id).map((row) => row.event_id as EventId),
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
          WHERE (newest.xid, newest.nid) < ${place(options.before)} AND root.status <= 1
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

      const unread = (userId: UserId, rooms: ReadonlyArray<ReadPosition>, upTo: StreamPosition) =>
        rooms.length === 0
          ? Effect.succeed([])
          : sql<{
              room_nid: bigint
              thread_id: string | null
              notifications: number
              highlights: number
              xid: string
              nid: bigint
            }>`
              SELECT room.room_nid, counted.thread_id, counted.notifications, counted.highlights, counted.xid, counted.nid
              FROM unnest(
                ${bigints(rooms.map(({ roomNid }) => roomNid))}::bigint[],
                ${texts(rooms.map(({ after }) => String(after.xid)))}::text[],
                ${bigints(rooms.map(({ after }) => after.nid))}::bigint[]
              ) AS room (room_nid, xid, nid)
              CROSS JOIN LATERAL (
                SELECT thread_id, count(*)::integer AS notifications, count(mentioned)::integer AS highlights,
                  (array_agg(newest.xid::text ORDER BY newest.xid DESC, newest.nid DESC))[1] AS xid,
                  (array_agg(newest.nid ORDER BY newest.xid DESC, newest.nid DESC))[1] AS nid
                FROM (
                  SELECT events.xid, events.nid, events.thread_id, mentions.user_id AS mentioned FROM events
                  LEFT JOIN mentions ON mentions.user_id = ${userId} AND mentions.room_nid = events.room_nid
                    AND mentions.xid = events.xid AND mentions.nid = events.nid
                  WHERE events.room_nid = room.room_nid AND notifies AND status = 0
                    AND (events.xid, events.nid) > (room.xid::xid8, room.nid)
                    AND (events.xid, events.nid) <= ${place(upTo)}
                    AND events.sender <> ${userId}
                  ORDER BY events.xid DESC, events.nid DESC LIMIT ${maxCounted}
                ) AS newest
                GROUP BY thread_id
              ) AS counted`.pipe(
              Effect.map((rows) =>
                rows.map((row) => ({
                  roomNid: Number(row.room_nid),
                  threadId: (row.thread_id ?? undefined) as EventId | undefined,
                  notifications: row.notifications,
                  highlights: row.highlights,
                  newest: { xid: Number(row.xid), nid: Number(row.nid) }
                }))
              ),
              Effect.orDie
            )

      const unreadInThread = (
        userId: UserId,
        { after, roomNid, threadId }: ReadPosition & { readonly threadId: EventId | undefined },
        upTo: StreamPosition
      ) =>
        sql<{ notifications: number; highlights: number }>`
          SELECT count(*)::integer AS notifications, count(mentioned)::integer AS highlights FROM (
            SELECT mentions.user_id AS mentioned FROM events
            LEFT JOIN mentions ON mentions.user_id = ${userId} AND mentions.room_nid = events.room_nid
              AND mentions.xid = events.xid AND mentions.nid = events.nid
            WHERE events.room_nid = ${roomNid} AND notifies AND status = 0
              AND events.thread_id IS NOT DISTINCT FROM ${threadId ?? null}
              AND (events.xid, events.nid) > ${place(after)} AND (events.xid, events.nid) <= ${place(upTo)}
              AND events.sender <> ${userId}
            LIMIT ${maxCounted}
          ) AS counted`.pipe(
          Effect.map(([row]) => ({
            roomNid,
            threadId,
            notifications: row?.notifications ?? 0,
            highlights: row?.highlights ?? 0
          })),
          Effect.orDie
        )

      return RelationStore.of({ children, related, aggregations, threads, unread, unreadInThread })
    })
  )
}
