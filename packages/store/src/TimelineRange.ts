/**
 * A part of the timeline of a room, and several of them as the rows of a query.
 */
import type { Effect } from "effect"
import type { SqlClient, Statement } from "effect/sql"
import { readWithin } from "./LargeReads.ts"
import { bigints, texts } from "./PgArrays.ts"
import type { StreamPosition } from "./StreamToken.ts"

/** The events of a room after one position, up to another one and with that. */
export interface TimelineRange {
  readonly roomNid: number
  readonly after: StreamPosition
  readonly upTo: StreamPosition
}

const rangeColumns = "range (room_nid, after_xid, after_nid, up_to_xid, up_to_nid)"

/**
 * The ranges as the table `range`, for a FROM clause. `inRange` is true of rows with a position in theirs. PostgreSQL plans the query of
 * one range as if its values stood in the conditions.
 */
export const rangeRows = (sql: SqlClient.SqlClient, ranges: ReadonlyArray<TimelineRange>): Statement.Fragment => {
  const [first] = ranges
  if (first !== undefined && ranges.length === 1) {
    const { after, roomNid, upTo } = first
    return sql`(VALUES (
      ${String(roomNid)}::bigint, ${String(after.xid)}::text, ${String(after.nid)}::bigint, ${String(upTo.xid)}::text, ${String(upTo.nid)}::bigint
    )) AS ${sql.literal(rangeColumns)}`
  }
  return sql`unnest(
    ${bigints(ranges.map((range) => range.roomNid))}::bigint[],
    ${texts(ranges.map((range) => String(range.after.xid)))}::text[],
    ${bigints(ranges.map((range) => range.after.nid))}::bigint[],
    ${texts(ranges.map((range) => String(range.upTo.xid)))}::text[],
    ${bigints(ranges.map((range) => range.upTo.nid))}::bigint[]
  ) AS ${sql.literal(rangeColumns)}`
}

/** The condition that a row with the columns `xid` and `nid` lies in the range. */
export const inRange = (sql: SqlClient.SqlClient) =>
  sql.literal(`(xid, nid) > (range.after_xid::xid8, range.after_nid)
    AND (xid, nid) <= (range.up_to_xid::xid8, range.up_to_nid)`)

/** An event of a range, without its body if those before it have `maxBytes` bytes. */
export interface SizedEventRow {
  readonly room_nid: bigint
  readonly xid: string
  readonly nid: bigint
  readonly body: string | null
}

/**
 * The first `limit` events of `range` in an order, for a LATERAL subquery: `xid`, `nid`, the given columns, and the bodies of the first
 * ones, which together have `maxBytes` bytes or little more. PostgreSQL has the length of a text without reading it, so that other
 * bodies are not read.
 *
 * A join of the bodies after the limit reads each event by a second index, which takes twice the processor time.
 */
export const sizedEvents = (
  sql: SqlClient.SqlClient,
  columns: string,
  within: Statement.Fragment,
  order: Statement.Fragment,
  { limit, maxBytes }: { readonly limit: number; readonly maxBytes: number }
) => sql`
  SELECT xid, nid${sql.literal(columns)}, CASE WHEN bytes - octet_length(body) < ${maxBytes} THEN body END AS body FROM (
    SELECT page.*, sum(octet_length(body)) OVER (ORDER BY xid ${order}, nid ${order} ROWS UNBOUNDED PRECEDING) AS bytes
    FROM (
      SELECT xid, nid${sql.literal(columns)}, body FROM events
      WHERE events.room_nid = range.room_nid AND status <= 1 AND ${within}
      ORDER BY xid ${order}, nid ${order} LIMIT ${limit}
    ) AS page
  ) AS sized`

/** The rows of a query for ranges, each of which has `maxBytes` bytes at most. */
export const readRanges = <Row extends SizedEventRow, E>(
  ranges: ReadonlyArray<TimelineRange>,
  maxBytes: number,
  query: (maxBytes: number) => Effect.Effect<ReadonlyArray<Row>, E>
): Effect.Effect<ReadonlyArray<Row>, E> =>
  readWithin({
    query: (ofAll) => query(Math.min(maxBytes, Math.ceil(ofAll / ranges.length))),
    bytesOf: (rows) => rows.reduce((sum, { body }) => sum + (body?.length ?? 0), 0),
    isCut: ({ body }) => body === null,
    maxBytes: maxBytes * ranges.length
  })
