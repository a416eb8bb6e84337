/**
 * The time at which waiting work is due, in SQL. A time that is further away than any wait was noted before the clock was set back: the
 * work is due at once.
 */
import type * as SqlClient from "effect/sql/SqlClient"
import type * as Statement from "effect/sql/Statement"

/** `retry_at`, or 0 where that is more than `longestWait` ms after `now`. */
export const dueAt = (
  sql: SqlClient.SqlClient,
  now: number,
  longestWait: number | Statement.Fragment
): Statement.Fragment => sql`CASE WHEN retry_at > ${now}::bigint + ${longestWait} THEN 0 ELSE retry_at END`
