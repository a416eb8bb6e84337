/**
 * Reading the event log after a position: from memory what this node has committed, else from the database.
 */
import type { Event } from "@greenroom/protocol/Event"
import { Effect } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import { type LogSlice, type MembershipRow, type StreamedEvent, toStreamedMembership } from "../LogSlice.ts"
import { texts } from "../PgArrays.ts"
import { comparePositions, endOfTransaction, type StreamPosition } from "../StreamToken.ts"
import { logEdge } from "./logEdge.ts"
import type { RecentCommits } from "./RecentCommits.ts"

export const endOfTransactionsBefore = (xid: string): StreamPosition => endOfTransaction(Number(xid) - 1)

/**
 * How far a reader has come who has read up to the edge: the edge lies further back for a moment where a transaction of
 * another database ends, and what was read is not read again.
 */
const upToEdge = (position: StreamPosition, edge: string): StreamPosition => {
  const end = endOfTransactionsBefore(edge)
  return comparePositions(end, position) > 0 ? end : position
}

interface LogRow {
  readonly edge: string
  /** Null in the one row that an empty slice has. */
  readonly xid: string | null
  readonly nid: bigint
  readonly room_nid: bigint
  readonly body: string
  /** Whether the event changed the membership of a user of ours. */
  readonly moves: boolean | null
}

/** The slice from memory, if nobody else has committed anything in it; otherwise undefined. */
export const tellAfter = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  recent: RecentCommits,
  position: StreamPosition,
  limit: number
): Effect.fn.Return<LogSlice | undefined, SqlError.SqlError> {
  const next = recent.next(position)
  if (next !== undefined && next.events.length <= limit) return next
  const xids = recent.after(position)
  if (xids.length === 0) return undefined
  const rows = yield* sql<{ edge: string; others: boolean }>`
    WITH complete AS MATERIALIZED (SELECT ${logEdge(sql)} AS edge)
    SELECT edge::text AS edge, EXISTS (
      SELECT FROM events
      WHERE status = 0 AND (xid, nid) > (${String(position.xid)}::xid8, ${String(position.nid)}::bigint)
        AND xid < complete.edge AND xid <> ALL (${texts(xids.map(String))}::text[]::xid8[])
    ) AS others
    FROM complete`
  const { edge, others } = rows[0]!
  if (others) return undefined
  const told = recent.tell(new Set(xids.filter((xid) => xid < Number(edge))))
  return told.events.length > limit ? undefined : { ...told, upTo: upToEdge(position, edge) }
})

export const readAfter = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  position: StreamPosition,
  limit: number
) {
  const rows = yield* sql<LogRow>`
    WITH complete AS MATERIALIZED (SELECT ${logEdge(sql)} AS edge)
    SELECT complete.edge::text AS edge, logged.* FROM complete LEFT JOIN LATERAL (
      SELECT xid::text AS xid, nid, room_nid, body, EXISTS (
        SELECT 1 FROM membership_changes change WHERE change.xid = events.xid AND change.nid = events.nid
      ) AS moves
      FROM events
      WHERE status = 0 AND (xid, nid) > (${String(position.xid)}::xid8, ${String(position.nid)}::bigint)
        AND xid < complete.edge
      ORDER BY events.xid, events.nid LIMIT ${limit}
    ) AS logged ON true`
  const events = rows
    .filter((row) => row.xid !== null)
    .map(
      (row): StreamedEvent => ({
        position: { xid: Number(row.xid), nid: Number(row.nid) },
        roomNid: Number(row.room_nid),
        event: JSON.parse(row.body) as Event
      })
    )
  const upTo = events.length === limit ? events[limit - 1]!.position : upToEdge(position, rows[0]!.edge)
  const memberships = rows.some((row) => row.moves) ? yield* readMemberships(sql, position, upTo) : []
  return { events, memberships, upTo } satisfies LogSlice
})

const readMemberships = (sql: SqlClient.SqlClient, after: StreamPosition, upTo: StreamPosition) =>
  sql<MembershipRow>`
    SELECT xid::text AS xid, nid, room_nid, room_id, user_id, membership
    FROM membership_changes JOIN rooms USING (room_nid)
    WHERE (xid, nid) > (${String(after.xid)}::xid8, ${String(after.nid)}::bigint)
      AND (xid, nid) <= (${String(upTo.xid)}::xid8, ${String(upTo.nid)}::bigint)
    ORDER BY membership_changes.xid, membership_changes.nid`.pipe(Effect.map((rows) => rows.map(toStreamedMembership)))
