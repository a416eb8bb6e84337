/**
 * The event log orders events by the number of the transaction that committed them, so the next number must be above all
 * that are stored. PostgreSQL sees to that, except where a dump was restored into a server that has not counted as far:
 * there events would be told late or never, and out of order. The numbers in between are used up then (some 300,000 a
 * second), and order and stream tokens stay what they were.
 */
import { Effect } from "effect"
import type { SqlClient } from "effect/sql"

/** How many numbers one statement uses up. */
const chunk = 1_000_000

/** Makes sure that what is committed from now on stands behind every stored event. */
export const passStoredEvents = Effect.fnUntraced(function* (sql: SqlClient.SqlClient) {
  const look = Effect.map(
    sql<{ newest: string | null; next: string }>`
      SELECT pg_snapshot_xmax(pg_current_snapshot())::text AS next, (
        SELECT xid::text FROM events WHERE status = 0 ORDER BY events.xid DESC, nid DESC LIMIT 1
      ) AS newest`,
    ([row]) => ({ next: Number(row!.next), missing: Number(row!.newest ?? 0) - Number(row!.next) + 1 })
  )
  const { missing, next } = yield* look
  if (missing <= 0) return
  yield* Effect.logWarning(
    `The database was restored into a PostgreSQL that has counted ${next} transactions, ${missing} less than its events need. Counting on.`
  )
  while (true) {
    const left = (yield* look).missing
    if (left <= 0) return
    yield* sql`DO ${sql.literal(`$$
      BEGIN
        FOR each IN 1..${Math.min(left, chunk)} LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP;
      END $$`)}`
  }
})
