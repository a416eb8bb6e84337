/**
 * The events that have notified a user, in the order of the log: by the default push rules from the events themselves, by
 * rules of their own from rows (`push_actions`, `room_push_actions`), and invitations.
 *
 * An error of the database is a defect. Source: "Push notifications" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { EventId, RoomId, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Context, Effect, Layer } from "effect"
import { SqlClient, type Statement } from "effect/sql"
import { positionOf, positionSql } from "./internal/positionSql.ts"
import { bigints } from "./PgArrays.ts"
import { earlierPosition, endOfTransaction, laterPosition, type StreamPosition } from "./StreamToken.ts"

export interface StoredNotification {
  readonly position: StreamPosition
  readonly roomNid: number
  readonly roomId: RoomId
  readonly event: Event
  /** The root of the thread that the event is in; undefined for the main timeline. */
  readonly threadId: EventId | undefined
  readonly highlight: boolean
  /** Undefined if they follow from the default push rules. */
  readonly actions: ReadonlyArray<string | JsonObject> | undefined
  /** How many users are in the room now. */
  readonly joinedMembers: number
}

export interface NotificationQuery {
  readonly userId: UserId
  readonly after: StreamPosition
  readonly upTo: StreamPosition
  /** Oldest or newest first. */
  readonly order: "oldest" | "newest"
  readonly limit: number
  readonly onlyHighlights?: boolean
  /** The transaction since which the user has rows; undefined for a user with the default rules. */
  readonly rowsSince: number | undefined
  /** The rooms to search; all if absent. */
  readonly roomNids?: ReadonlyArray<number> | undefined
}

interface Row {
  readonly xid: string
  readonly nid: bigint
  readonly room_nid: bigint
  readonly room_id: string
  readonly joined_members: number
  readonly highlight: boolean
  readonly actions: string | null
  readonly thread_id: string | null
  readonly body: string
}

const toNotification = (row: Row): StoredNotification => ({
  position: positionOf(row),
  roomNid: Number(row.room_nid),
  roomId: row.room_id as RoomId,
  event: JSON.parse(row.body) as Event,
  threadId: (row.thread_id ?? undefined) as EventId | undefined,
  highlight: row.highlight,
  actions: row.actions === null ? undefined : (JSON.parse(row.actions) as ReadonlyArray<string | JsonObject>),
  joinedMembers: row.joined_members
})

export class NotificationStore extends Context.Service<
  NotificationStore,
  { readonly page: (query: NotificationQuery) => Effect.Effect<ReadonlyArray<StoredNotification>> }
>()("greenroom/store/NotificationStore") {
  static readonly layer = Layer.effect(
    NotificationStore,
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const nothing = sql.literal("")

      const page = (query: NotificationQuery) => {
        const { limit, onlyHighlights = false, order, roomNids, rowsSince, userId } = query
        const direction = sql.literal(order === "oldest" ? "ASC" : "DESC")
        const change = rowsSince === undefined ? query.upTo : endOfTransaction(rowsSince)
        const within = (table: string, after: StreamPosition, upTo: StreamPosition) => sql`
          (${sql.literal(table)}.xid, ${sql.literal(table)}.nid) > ${positionSql(sql, after)}
          AND (${sql.literal(table)}.xid, ${sql.literal(table)}.nid) <= ${positionSql(sql, upTo)}`
        const byDefault = (table: string) => within(table, query.after, earlierPosition(query.upTo, change))
        const inRooms = (table: string) =>
          roomNids === undefined
            ? sql`true`
            : sql`${sql.literal(table)}.room_nid = ANY (${bigints(roomNids)}::bigint[])`
        // Events from before the user joined have notified others, and may be hidden from the user.
        const rooms = sql`
          entered AS MATERIALIZED (
            SELECT room.room_nid, joined.xid, joined.nid FROM (
              SELECT DISTINCT room_nid FROM membership_changes change
              WHERE change.user_id = ${userId} AND change.membership = 'join'
                AND (change.xid, change.nid) > ${positionSql(sql, query.after)} AND ${inRooms("change")}
            ) AS room CROSS JOIN LATERAL (
              SELECT change.xid, change.nid FROM membership_changes change
              WHERE change.user_id = ${userId} AND change.room_nid = room.room_nid AND change.membership = 'join'
                AND NOT EXISTS (
                  SELECT FROM membership_changes later
                  WHERE later.user_id = ${userId} AND later.room_nid = room.room_nid AND later.membership <> 'join'
                    AND (later.xid, later.nid) > (change.xid, change.nid))
              ORDER BY change.xid, change.nid LIMIT 1
            ) AS joined
          ), room AS MATERIALIZED (
            SELECT memberships.room_nid, coalesce(entered.xid, ${String(query.after.xid)}::xid8) AS xid,
              coalesce(entered.nid, ${String(query.after.nid)}::bigint) AS nid
            FROM memberships LEFT JOIN entered USING (room_nid)
            WHERE memberships.user_id = ${userId} AND memberships.membership = 'join' AND ${inRooms("memberships")}
          )`
        const sinceJoin = (table: string) =>
          sql`(${sql.literal(table)}.xid, ${sql.literal(table)}.nid) > (room.xid, room.nid)`
        const ofRoom = (kind: Statement.Fragment) => sql`(
          SELECT events.xid, events.nid, events.room_nid,
            events.highlights OR mentions.user_id IS NOT NULL AS highlight, NULL::text AS actions, events.thread_id, events.body
          FROM events LEFT JOIN mentions ON mentions.user_id = ${userId} AND mentions.room_nid = events.room_nid
            AND mentions.xid = events.xid AND mentions.nid = events.nid
          WHERE events.room_nid = room.room_nid AND notifies AND ${kind} AND sender <> ${userId}
            AND ${byDefault("events")} AND ${sinceJoin("events")}
            ${onlyHighlights ? sql`AND (events.highlights OR mentions.user_id IS NOT NULL)` : nothing}
          ORDER BY events.xid ${direction}, events.nid ${direction} LIMIT ${limit})`
        const shared = sql`
          UNION ALL
          SELECT part.* FROM room CROSS JOIN LATERAL (
            SELECT events.xid, events.nid, events.room_nid, push.highlight, push.actions, events.thread_id, events.body
            FROM room_push_actions push JOIN events USING (nid)
            WHERE push.room_nid = room.room_nid AND ${sinceJoin("push")}
              AND ${within("push", laterPosition(query.after, change), query.upTo)}
              AND ${userId} <> ALL (push.others) AND (push.highlight OR ${!onlyHighlights})
            ORDER BY push.xid ${direction}, push.nid ${direction} LIMIT ${limit}
          ) AS part`
        return sql<Row>`
          WITH ${rooms}
          SELECT found.xid::text AS xid, found.nid, found.room_nid, rooms.room_id, rooms.joined_members, found.highlight,
            found.actions, found.thread_id, found.body
          FROM (
            SELECT part.* FROM room CROSS JOIN LATERAL (
              ${ofRoom(sql`notify_count > 0 AND status <= 1`)}
              UNION ALL ${ofRoom(sql`coalesce(notify_count, -1) < 0 AND status = 0`)}
            ) AS part
            UNION ALL (
              SELECT events.xid, events.nid, events.room_nid, true, NULL, events.thread_id, events.body
              FROM mentions JOIN room ON room.room_nid = mentions.room_nid AND ${sinceJoin("mentions")}
              JOIN events ON events.nid = mentions.nid
              WHERE mentions.user_id = ${userId} AND mentions.alone AND ${byDefault("mentions")}
              ORDER BY mentions.xid ${direction}, mentions.nid ${direction} LIMIT ${limit})
            UNION ALL (
              SELECT events.xid, events.nid, events.room_nid, false, NULL, events.thread_id, events.body
              FROM membership_changes change JOIN events ON events.nid = change.nid
              WHERE change.user_id = ${userId} AND change.membership = 'invite' AND ${byDefault("change")}
                AND ${inRooms("change")} AND ${!onlyHighlights}
              ORDER BY change.xid ${direction}, change.nid ${direction} LIMIT ${limit})
            UNION ALL (
              SELECT events.xid, events.nid, events.room_nid, push_actions.highlight, push_actions.actions, events.thread_id, events.body
              FROM push_actions JOIN events USING (nid)
              WHERE push_actions.user_id = ${userId}
                AND ${within("push_actions", laterPosition(query.after, change), query.upTo)}
                AND ${inRooms("push_actions")} AND (push_actions.highlight OR ${!onlyHighlights})
              ORDER BY push_actions.xid ${direction}, push_actions.nid ${direction} LIMIT ${limit})
            ${rowsSince === undefined ? nothing : shared}
          ) AS found JOIN rooms USING (room_nid)
          ORDER BY found.xid ${direction}, found.nid ${direction} LIMIT ${limit}`.pipe(
          Effect.map((rows) => rows.map(toNotification)),
          Effect.orDie
        )
      }

      return NotificationStore.of({ page })
    })
  )
}
