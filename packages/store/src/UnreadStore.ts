/**
 * Unread counts of users: events that notify, and those of them that are highlighted, by room and thread.
 *
 * For users of the default push rules, events of the main timeline are numbered, so that a count costs the same however many are
 * unread. Users with push rules of their own have rows: one for each user (`push_actions`) or one for all members
 * (`room_push_actions`).
 *
 * An error of the database is a defect. Source: "Push notifications" of the client-server specification.
 */
import type { EventId, UserId } from "@greenroom/protocol/Identifiers"
import { Context, Effect, Layer } from "effect"
import { SqlClient, type Statement } from "effect/sql"
import { positionSql } from "./internal/positionSql.ts"
import { bigints, texts } from "./PgArrays.ts"
import type { StreamPosition } from "./StreamToken.ts"

/** A room to count in. */
export interface ReadRoom {
  readonly roomNid: number
  /** How far the user has read the room as a whole. */
  readonly after: StreamPosition
  /** How far the user has read the main timeline: not before `after`. */
  readonly mainAfter: StreamPosition
  /** Receipts of threads, by the ID of the root. */
  readonly threads: ReadonlyMap<string, StreamPosition>
}

export interface UnreadCount {
  readonly roomNid: number
  /** Undefined for the main timeline. */
  readonly threadId: EventId | undefined
  readonly notifications: number
  readonly highlights: number
}

/** The most events that are counted one by one, in each room. */
const maxCounted = 10_000

interface Row {
  readonly room_nid: bigint
  readonly thread_id: string | null
  readonly notifications: number
  readonly highlights: number
}

const toCount = (row: Row): UnreadCount => ({
  roomNid: Number(row.room_nid),
  threadId: (row.thread_id ?? undefined) as EventId | undefined,
  notifications: row.notifications,
  highlights: row.highlights
})

export class UnreadStore extends Context.Service<
  UnreadStore,
  {
    /**
     * By the default push rules, up to a position. The counts of a room and thread may come in several parts, to be added. Events of
     * `ignored` users do not count.
     */
    readonly byDefault: (
      userId: UserId,
      rooms: ReadonlyArray<ReadRoom>,
      upTo: StreamPosition,
      ignored: ReadonlyArray<UserId>
    ) => Effect.Effect<ReadonlyArray<UnreadCount>>
    /** Counts from the rows of a user with push rules of their own. */
    readonly byRows: (
      userId: UserId,
      rooms: ReadonlyArray<ReadRoom>,
      upTo: StreamPosition,
      ignored: ReadonlyArray<UserId>
    ) => Effect.Effect<ReadonlyArray<UnreadCount>>
  }
>()("greenroom/store/UnreadStore") {
  static readonly layer = Layer.effect(
    UnreadStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient

      const roomTable = (rooms: ReadonlyArray<ReadRoom>) => sql`
        room AS MATERIALIZED (
          SELECT room_nid, xid::xid8 AS xid, nid, main_xid::xid8 AS main_xid, main_nid FROM unnest(
            ${bigints(rooms.map(({ roomNid }) => roomNid))}::bigint[],
            ${texts(rooms.map(({ after }) => String(after.xid)))}::text[],
            ${bigints(rooms.map(({ after }) => after.nid))}::bigint[],
            ${texts(rooms.map(({ mainAfter }) => String(mainAfter.xid)))}::text[],
            ${bigints(rooms.map(({ mainAfter }) => mainAfter.nid))}::bigint[]
          ) AS given (room_nid, xid, nid, main_xid, main_nid)), ${threadTable(rooms)}`

      const threadTable = (rooms: ReadonlyArray<ReadRoom>) => {
        const read = rooms.flatMap(({ roomNid, threads }) =>
          Array.from(threads, ([threadId, at]) => ({ roomNid, threadId, at }))
        )
        return sql`
          read_thread AS MATERIALIZED (
            SELECT room_nid, thread_id, xid::xid8 AS xid, nid FROM unnest(
              ${bigints(read.map(({ roomNid }) => roomNid))}::bigint[], ${texts(read.map(({ threadId }) => threadId))}::text[],
              ${texts(read.map(({ at }) => String(at.xid)))}::text[], ${bigints(read.map(({ at }) => at.nid))}::bigint[]
            ) AS given (room_nid, thread_id, xid, nid))`
      }

      /** Rows of a table that the user has not read, in the room of the outer query. */
      const unreadIn = (table: Statement.Fragment, upTo: StreamPosition) => sql`
        ${table}.room_nid = room.room_nid
        AND (${table}.xid, ${table}.nid) > (room.xid, room.nid)
        AND (${table}.xid, ${table}.nid) <= ${positionSql(sql, upTo)}
        AND (${table}.thread_id IS NOT NULL OR (${table}.xid, ${table}.nid) > (room.main_xid, room.main_nid))
        AND NOT EXISTS (
          SELECT FROM read_thread
          WHERE read_thread.room_nid = room.room_nid AND read_thread.thread_id = ${table}.thread_id
            AND (read_thread.xid, read_thread.nid) >= (${table}.xid, ${table}.nid))`

      const events = sql.literal("events")
      const mentions = sql.literal("mentions")
      const actions = sql.literal("push_actions")
      const roomActions = sql.literal("room_push_actions")

      /** How many numbered events there were up to a position. */
      const countAt = (position: Statement.Fragment) => sql`
        coalesce((
          SELECT CASE WHEN notify_count > 0 THEN notify_count ELSE -1 - notify_count END FROM events
          WHERE events.room_nid = room.room_nid AND notify_count IS NOT NULL AND status <= 1
            AND (events.xid, events.nid) <= ${position}
          ORDER BY events.xid DESC, events.nid DESC LIMIT 1), 0)`

      /** The rows of a table whose events are not by ignored users. */
      const notIgnored = (table: Statement.Fragment, ignored: ReadonlyArray<UserId>) =>
        ignored.length === 0
          ? sql`true`
          : sql`NOT EXISTS (
              SELECT FROM events WHERE events.nid = ${table}.nid AND events.sender = ANY (${texts(ignored)}::text[]))`

      const numbered = (silent: Statement.Fragment, upTo: StreamPosition) => {
        const end = sql`${positionSql(sql, upTo)}`
        const between = sql`
          events.room_nid = room.room_nid AND notify_count > 0
          AND (events.xid, events.nid) > (room.main_xid, room.main_nid) AND (events.xid, events.nid) <= ${end}`
        return sql`
          SELECT NULL::text AS thread_id, greatest(0,
            ${countAt(end)} - ${countAt(sql`(room.main_xid, room.main_nid)`)}
            - (SELECT count(*) FROM events WHERE ${between} AND sender = ANY (${silent}))
            - (SELECT count(*) FROM events WHERE ${between} AND NOT notifies AND sender <> ALL (${silent}))
          )::integer AS notifications, 0 AS highlights
          WHERE (room.main_xid, room.main_nid) < ${end}`
      }

      const byDefault = (
        userId: UserId,
        rooms: ReadonlyArray<ReadRoom>,
        upTo: StreamPosition,
        ignored: ReadonlyArray<UserId>
      ) => {
        const silent = sql`${texts([userId, ...ignored])}::text[]`
        return rooms.length === 0
          ? Effect.succeed([])
          : sql<Row>`
              WITH ${roomTable(rooms)}
              SELECT room.room_nid, part.thread_id, part.notifications, part.highlights FROM room CROSS JOIN LATERAL (
                ${numbered(silent, upTo)}
                UNION ALL
                SELECT thread_id, count(*)::integer, 0 FROM (
                  SELECT thread_id FROM events
                  WHERE ${unreadIn(events, upTo)} AND notifies AND coalesce(notify_count, -1) < 0 AND status = 0
                    AND sender <> ALL (${silent})
                  LIMIT ${maxCounted}
                ) AS uncounted GROUP BY thread_id
                UNION ALL
                SELECT thread_id, count(*) FILTER (WHERE alone)::integer, count(*)::integer FROM (
                  SELECT thread_id, alone FROM mentions WHERE ${unreadIn(mentions, upTo)} AND user_id = ${userId} AND ${notIgnored(mentions, ignored)}
                  LIMIT ${maxCounted}
                ) AS mentioned GROUP BY thread_id
                UNION ALL
                SELECT thread_id, 0, count(*)::integer FROM (
                  SELECT thread_id FROM events
                  WHERE ${unreadIn(events, upTo)} AND highlights AND status = 0 AND sender <> ALL (${silent})
                    AND NOT EXISTS (
                      SELECT FROM mentions
                      WHERE mentions.user_id = ${userId} AND mentions.room_nid = events.room_nid
                        AND mentions.xid = events.xid AND mentions.nid = events.nid)
                  LIMIT ${maxCounted}
                ) AS highlighted GROUP BY thread_id
              ) AS part
              WHERE part.notifications > 0 OR part.highlights > 0`.pipe(
              Effect.map((rows) => rows.map(toCount)),
              Effect.orDie
            )
      }

      const byRows = (
        userId: UserId,
        rooms: ReadonlyArray<ReadRoom>,
        upTo: StreamPosition,
        ignored: ReadonlyArray<UserId>
      ) =>
        rooms.length === 0
          ? Effect.succeed([])
          : sql<Row>`
              WITH ${roomTable(rooms)}
              SELECT room.room_nid, part.thread_id, part.notifications, part.highlights FROM room CROSS JOIN LATERAL (
                SELECT thread_id, count(*)::integer AS notifications, count(*) FILTER (WHERE highlight)::integer AS highlights
                FROM (
                  SELECT thread_id, highlight FROM push_actions
                  WHERE ${unreadIn(actions, upTo)} AND user_id = ${userId} AND ${notIgnored(actions, ignored)}
                  UNION ALL
                  SELECT thread_id, highlight FROM room_push_actions
                  WHERE ${unreadIn(roomActions, upTo)} AND ${userId} <> ALL (others) AND ${notIgnored(roomActions, ignored)}
                  LIMIT ${maxCounted}
                ) AS notified GROUP BY thread_id
              ) AS part`.pipe(
              Effect.map((rows) => rows.map(toCount)),
              Effect.orDie
            )

      return UnreadStore.of({ byDefault, byRows })
    })
  )
}
