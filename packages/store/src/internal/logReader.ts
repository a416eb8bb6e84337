/**
 * Reading the event log after a position: from memory the commits that this node knows, else from the database.
 *
 * One statement reads all kinds of rows below the low watermark, so that a slice is complete in all of them.
 */
import { setTimeout as pauseFor } from "node:timers/promises"
import type { Event } from "@greenroom/protocol/Event"
import { Effect } from "effect"
import type { SqlClient, SqlError, Statement } from "effect/sql"
import type { AnyLogKind, LogRow, LogRows } from "../LogKind.ts"
import { type LogSlice, type MembershipRow, type StreamedEvent, toStreamedMembership } from "../LogSlice.ts"
import { texts } from "../PgArrays.ts"
import { beginning, comparePositions, endOfTransaction, laterPosition, type StreamPosition } from "../StreamToken.ts"
import { logEdge } from "./logEdge.ts"
import { logKinds } from "./logKinds.ts"
import { positionOf, positionSql } from "./positionSql.ts"
import type { RecentCommits } from "./RecentCommits.ts"
import { stateRef } from "./stateRows.ts"

const endOfTransactionsBefore = (xid: string): StreamPosition => endOfTransaction(Number(xid) - 1)

/**
 * The position of a reader that has read up to the edge: the edge can move back for a moment when a transaction of another
 * database ends, and rows are not read twice.
 */
const upToEdge = (position: StreamPosition, edge: string): StreamPosition => {
  const end = endOfTransactionsBefore(edge)
  return comparePositions(end, position) > 0 ? end : position
}

/** The position of the reader and the watermark, once for all tables: PostgreSQL reads each parameter anew. */
const complete = (sql: SqlClient.SqlClient, { nid, xid }: StreamPosition, more: Statement.Fragment) => sql`
  complete AS MATERIALIZED (
    SELECT ${logEdge(sql)} AS edge, ${String(xid)}::xid8 AS after_xid, ${String(nid)}::bigint AS after_nid, ${more})`

/** Rows after the position and below the watermark. */
const between = "(xid, nid) > (complete.after_xid, complete.after_nid) AND xid < complete.edge"

/**
 * Whether a table has such a row, looked for in the order of the log. EXISTS would read the table from its beginning: the
 * planner expects to find a row at once, and mostly there is none.
 */
const hasRow = (table: string, condition: string) =>
  `((SELECT 1 FROM ${table} WHERE ${condition} ORDER BY ${table}.xid, ${table}.nid LIMIT 1) IS NOT NULL)`

const isUnknown = `${between} AND xid <> ALL (complete.known)`

/** Whether there is a row that no known transaction has written. */
const hasUnknown = [
  hasRow("events", `status = 0 AND ${isUnknown}`),
  ...logKinds.map(({ table }) => hasRow(table, isUnknown))
].join(" OR ")

const lastOf = (rows: ReadonlyArray<{ readonly position: StreamPosition }>): StreamPosition | undefined =>
  rows.at(-1)?.position

const nothing = { events: [], memberships: [], rows: new Map(), last: undefined, complete: true } as const

/** How often to look again, a millisecond later, for the announcement of a transaction that is missing. */
const gapAttempts = 3

/**
 * The rows that are known without asking the database. With other nodes (`isShared`) the next transaction may be about to be
 * announced.
 */
const knownAfter = Effect.fnUntraced(function* (
  recent: RecentCommits,
  position: StreamPosition,
  limit: number,
  isShared: boolean
) {
  for (let attempt = 0; ; attempt++) {
    const known = recent.next(position, limit)
    if (known !== undefined || !isShared || attempt === gapAttempts || !recent.hasGapAfter(position)) return known
    yield* Effect.promise(() => pauseFor(1))
  }
})

/** The slice from memory, if nothing but known commits is in it; otherwise undefined. */
export const recallAfter = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  recent: RecentCommits,
  position: StreamPosition,
  limit: number,
  isShared: boolean
): Effect.fn.Return<LogSlice | undefined, SqlError.SqlError> {
  const next = yield* knownAfter(recent, position, limit, isShared)
  if (next !== undefined) return next
  const xids = recent.after(position)
  if (xids.length === 0) return undefined
  const known = sql`${texts(xids.map(String))}::text[]::xid8[] AS known`
  const rows = yield* sql<{ edge: string; others: boolean }>`
    WITH ${complete(sql, position, known)} SELECT edge::text AS edge, ${sql.literal(hasUnknown)} AS others FROM complete`
  const { edge, others } = rows[0]!
  if (others) return undefined
  const below = xids.filter((xid) => xid < Number(edge))
  if (below.length === 0) return { ...nothing, upTo: upToEdge(position, edge) }
  const slice = recent.replay(new Set(below), limit)
  return slice?.complete ? { ...slice, upTo: upToEdge(position, edge) } : slice
})

interface ReadRow {
  readonly edge: string
  /** `events` or the table of another kind. Null in the one row that an empty slice has. */
  readonly kind: string | null
  readonly xid: string
  readonly nid: bigint
  readonly room_nid: bigint
  /** The event, or the row of another kind as JSON. */
  readonly row: string
  /** Whether an event changed the membership of a user of ours. */
  readonly moves: boolean | null
  /** The states before and after an event. Without them it does not continue the timeline before it, which has a gap. */
  readonly before_chain: bigint | null
  readonly before_seq: number | null
  readonly after_chain: bigint | null
  readonly after_seq: number | null
}

const selectEvents = `(
  SELECT 'events' AS kind, xid::text AS xid, nid, room_nid, body AS row, EXISTS (
    SELECT 1 FROM membership_changes change WHERE change.xid = events.xid AND change.nid = events.nid
  ) AS moves,
  CASE WHEN NOT EXISTS (SELECT 1 FROM timeline_gaps WHERE timeline_gaps.nid = events.nid) THEN state_chain END AS before_chain,
  state_seq AS before_seq, after_chain, after_seq
  FROM events WHERE status = 0 AND ${between}
  ORDER BY events.xid, events.nid LIMIT complete.most)`

const selectRows = ({ columns, table }: AnyLogKind) => `(
  SELECT '${table}', xid::text, nid, NULL,
    json_build_object(${Object.entries(columns)
      .map(([name, column]) => `'${name}', ${column}`)
      .join(", ")})::text,
    NULL, NULL, NULL, NULL, NULL
  FROM ${table} WHERE ${between}
  ORDER BY ${table}.xid, ${table}.nid LIMIT complete.most)`

const selectAll = [selectEvents, ...logKinds.map(selectRows)].join(" UNION ALL ")

const statesOf = ({ after_chain, after_seq, before_chain, before_seq }: ReadRow): Pick<StreamedEvent, "states"> => {
  const before = stateRef(before_chain, before_seq)
  return before === undefined ? {} : { states: { before, after: stateRef(after_chain, after_seq) ?? before } }
}

/** How far all kinds were read: up to the edge, or less where one of them has more rows than the limit. */
const endOfSlice = (rows: ReadonlyMap<string | null, ReadonlyArray<ReadRow>>, limit: number, end: StreamPosition) => {
  let upTo = end
  for (const [kind, ofKind] of rows) {
    if (kind === null || ofKind.length < limit) continue
    const last = positionOf(ofKind[limit - 1]!)
    if (comparePositions(last, upTo) < 0) upTo = last
  }
  return upTo
}

export const readAfter = Effect.fnUntraced(function* (
  sql: SqlClient.SqlClient,
  position: StreamPosition,
  limit: number
): Effect.fn.Return<LogSlice, SqlError.SqlError> {
  const found = yield* sql<ReadRow>`
    WITH ${complete(sql, position, sql`${limit}::bigint AS most`)}
    SELECT complete.edge::text AS edge, logged.* FROM complete LEFT JOIN LATERAL (${sql.literal(selectAll)}) AS logged ON true`
  const byKind = Map.groupBy(found, (row) => row.kind)
  const edge = upToEdge(position, found[0]!.edge)
  const upTo = endOfSlice(byKind, limit, edge)
  const within = (row: ReadRow) => comparePositions(positionOf(row), upTo) <= 0
  const ofEvents = (byKind.get("events") ?? []).filter(within)
  const events = ofEvents.map(
    (row): StreamedEvent => ({
      position: positionOf(row),
      roomNid: Number(row.room_nid),
      event: JSON.parse(row.row) as Event,
      ...statesOf(row)
    })
  )
  let last = lastOf(events)
  const rows = new Map<string, ReadonlyArray<LogRow<never>>>()
  for (const { table } of logKinds) {
    const ofKind = (byKind.get(table) ?? []).filter(within)
    if (ofKind.length === 0) continue
    const parsed = ofKind.map(
      (row): LogRow<never> => ({ position: positionOf(row), row: JSON.parse(row.row) as never })
    )
    rows.set(table, parsed)
    last = laterPosition(lastOf(parsed)!, last ?? beginning)
  }
  const memberships = ofEvents.some((row) => row.moves) ? yield* readMemberships(sql, position, upTo) : []
  return { events, memberships, rows: rows satisfies LogRows, last, upTo, complete: upTo === edge }
})

const readMemberships = (sql: SqlClient.SqlClient, after: StreamPosition, upTo: StreamPosition) =>
  sql<MembershipRow>`
    SELECT xid::text AS xid, nid, room_nid, room_id, user_id, membership
    FROM membership_changes JOIN rooms USING (room_nid)
    WHERE (xid, nid) > ${positionSql(sql, after)}
      AND (xid, nid) <= ${positionSql(sql, upTo)}
    ORDER BY membership_changes.xid, membership_changes.nid`.pipe(Effect.map((rows) => rows.map(toStreamedMembership)))
