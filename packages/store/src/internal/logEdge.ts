/**
 * Where the event log is complete: every transaction of this database with a lower number has committed or will never.
 *
 * PostgreSQL's own `pg_snapshot_xmin` says the same, but counts the transactions of all databases of the server: one
 * that writes for an hour in another database would hold up the stream for an hour. So those of this database alone are
 * looked for, among what was under way after the snapshot was taken. What is read by a later statement sees all that
 * had ended by then.
 */
import { Effect } from "effect"
import type { SqlClient, SqlError } from "effect/sql"

/** Transaction numbers of backends come without their upper half. */
const wrap = 2 ** 32

/** The whole number of a transaction that was under way when `next` was the next one. */
export const wholeNumber = (lowerHalf: number, next: number): number => {
  const number = next - (next % wrap) + lowerHalf
  if (number - next > wrap / 2) return number - wrap
  return next - number > wrap / 2 ? number + wrap : number
}

/** The lowest number of a transaction that may still commit. What is below it can be read by the next statement. */
export const logEdge = (sql: SqlClient.SqlClient): Effect.Effect<number, SqlError.SqlError> =>
  Effect.map(
    sql<{ next: string; running: ReadonlyArray<string> | null }>`
      SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS next, (
        SELECT array_agg(backend_xid::text) FROM pg_stat_get_activity(NULL)
        WHERE backend_xid IS NOT NULL AND datid = (SELECT oid FROM pg_database WHERE datname = current_database())
      ) AS running`,
    ([row]) => {
      const next = Number(row!.next)
      return Math.min(next, ...(row!.running ?? []).map((each) => wholeNumber(Number(each), next)))
    }
  )
