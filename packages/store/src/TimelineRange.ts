/**
 * A part of the timeline of a room, and several of them as the rows of a query.
 */
import type { SqlClient } from "effect/sql"
import { bigints, texts } from "./PgArrays.ts"
import type { StreamPosition } from "./StreamToken.ts"

/** The events of a room after one position, up to another one and with that. */
export interface TimelineRange {
  readonly roomNid: number
  readonly after: StreamPosition
  readonly upTo: StreamPosition
}

/** The ranges as the table `range`, for a FROM clause. `inRange` is true of rows with a position in theirs. */
export const rangeRows = (sql: SqlClient.SqlClient, ranges: ReadonlyArray<TimelineRange>) => sql`unnest(
  ${bigints(ranges.map((range) => range.roomNid))}::bigint[],
  ${texts(ranges.map((range) => String(range.after.xid)))}::text[],
  ${bigints(ranges.map((range) => range.after.nid))}::bigint[],
  ${texts(ranges.map((range) => String(range.upTo.xid)))}::text[],
  ${bigints(ranges.map((range) => range.upTo.nid))}::bigint[]
) AS range (room_nid, after_xid, after_nid, up_to_xid, up_to_nid)`

/** The condition that a row with the columns `xid` and `nid` lies in the range. */
export const inRange = (sql: SqlClient.SqlClient) =>
  sql.literal(`(xid, nid) > (range.after_xid::xid8, range.after_nid)
    AND (xid, nid) <= (range.up_to_xid::xid8, range.up_to_nid)`)
