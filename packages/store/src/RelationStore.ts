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
import { type Aggregation, makeAggregations, type Parent } from "./internal/aggregations.ts"
import { positionOf, positionSql } from "./internal/positionSql.ts"
import { readWhole, type SizedRow, sizedBody } from "./LargeReads.ts"
import { type EventRow, type StreamedEvent, toStreamedEvent } from "./LogSlice.ts"
import { texts } from "./PgArrays.ts"
import type { StreamPosition } from "./StreamToken.ts"

export type { Aggregation, Parent } from "./internal/aggregations.ts"

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

/** An annotation (a reaction) of an event: its sender, type and key. */
export interface Annotation {
  readonly target: EventId
  readonly sender: UserId
  readonly type: string
  readonly key: string
}

export interface Thread {
  readonly root: EventId
  /** The position of the newest event of the thread. */
  readonly latest: StreamPosition
  /** Whether the user has sent the root, or an event in the thread. */
  readonly participated: boolean
}

/** How many annotations of one event by one user are searched for a key. */
const maxAnnotations = 100

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
        return readWhole(
          sql,
          (first) => sql<EventRow & SizedRow & { readonly found: bigint }>`
            SELECT sized.xid::text AS xid, sized.nid, sized.room_nid, sized.found, ${sizedBody(sql)} FROM (
              SELECT page.*, count(*) OVER () AS found,
                sum(octet_length(body)) OVER (ORDER BY xid ${order}, nid ${order} ROWS UNBOUNDED PRECEDING) AS bytes
              FROM (
                SELECT xid, nid, room_nid, body FROM events
                WHERE ${childrenOf(query.roomNid, query.parents)}
                  AND (xid, nid) > ${positionSql(sql, query.after)} AND (xid, nid) <= ${positionSql(sql, query.upTo)}
                  ${query.relType === undefined ? none : sql`AND rel_type = ${query.relType}`}
                  ${query.eventType === undefined ? none : sql`AND type = ${query.eventType}`}
                ORDER BY events.xid ${order}, events.nid ${order} LIMIT ${query.limit}
              ) AS page
              ORDER BY page.xid ${order}, page.nid ${order} ${first}
            ) AS sized
            WHERE sized.bytes - octet_length(sized.body) < ${query.maxBytes}
            ORDER BY sized.xid ${order}, sized.nid ${order}`
        ).pipe(
          Effect.map((rows) => ({
            events: rows.map(toStreamedEvent),
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
          LIMIT ${maxAnnotations}`.pipe(
          Effect.map((rows) =>
            rows.some(({ body }) => {
              const relation = (JSON.parse(body) as Event).content["m.relates_to"]
              return isJsonObject(relation) && relation.key === key
            })
          ),
          Effect.orDie
        )

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
                latest: positionOf(row),
                participated: row.participated
              })
            )
          ),
          Effect.orDie
        )

      return RelationStore.of({
        children,
        childIds,
        relationTypes,
        related,
        isAnnotated,
        aggregations: makeAggregations(sql),
        threads
      })
    })
  )
}
