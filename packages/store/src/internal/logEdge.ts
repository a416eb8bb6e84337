/**
 * The low watermark of the event log: the lowest number of a transaction that was running when the statement began, as an
 * expression of SQL. Everything below has committed and is seen by the same statement, or never will be.
 *
 * PostgreSQL's own `pg_snapshot_xmin` says the same, but counts the transactions of all databases of the server: one that
 * writes for an hour in another database would hold up the stream for an hour. So transactions that are known to run in
 * another database are left out; those that have ended in between count as ours.
 */
import { Effect } from "effect"
import type { SqlClient, SqlError, Statement } from "effect/sql"

/** The first part of positions that are not complete yet: an `xid8`. The numbers of running backends come without their upper half. */
export const logEdge = (sql: SqlClient.SqlClient): Statement.Fragment => sql`(
  SELECT (least(pg_snapshot_xmax(pg_current_snapshot())::text::bigint, min(number))
    + (SELECT value FROM log_offset))::text::xid8
  FROM (SELECT xip::text::bigint AS number FROM pg_snapshot_xip(pg_current_snapshot()) AS xip) AS running
  WHERE (number & 4294967295) NOT IN (
    SELECT backend_xid::text::bigint FROM pg_stat_get_activity(NULL)
    WHERE backend_xid IS NOT NULL
      AND datid <> (SELECT oid FROM pg_database WHERE datname = current_database())))`

/** A number above those of all transactions that have ended, in the first part of positions. */
export const nextOfEnded = (sql: SqlClient.SqlClient): Effect.Effect<number, SqlError.SqlError> =>
  Effect.map(
    sql<{ next: string }>`
      SELECT (pg_snapshot_xmax(pg_current_snapshot())::text::bigint + value)::text AS next FROM log_offset`,
    ([row]) => Number(row!.next)
  )
