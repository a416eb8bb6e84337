import { Effect, Schedule } from "effect"
import { SqlClient } from "effect/sql"

/** Waits until a statement waits for a lock of the transaction in which this runs. */
export const untilBlocked = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  // Not by pg_stat_activity: a transaction sees none of the connections that began after it has read that.
  const blocked = sql`SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))`
  yield* Effect.repeat(blocked, { until: (rows) => rows.length > 0, schedule: Schedule.spaced("10 millis") })
})
