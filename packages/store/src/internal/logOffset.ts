/**
 * Positions in the log begin with the number of a transaction plus an offset (`log_xid()`), so the next number must lie
 * above all that are stored. PostgreSQL sees to that, except where a dump was restored into a database cluster that has
 * not counted as far: rows would be read late or never, and out of order. The offset is raised then. Order and tokens stay
 * what they were.
 */
import { Effect } from "effect"
import type { SqlClient } from "effect/sql"
import { logKinds } from "./logKinds.ts"

/** "grlogoff" in the bytes of ASCII: the advisory lock of the node that raises the offset. */
const offsetLock = 0x67726c6f676f6666n

/** Makes sure that what is committed from now on stands behind every stored row. */
export const passStoredPositions = Effect.fnUntraced(function* (sql: SqlClient.SqlClient) {
  const tables = ["membership_changes", ...logKinds.map(({ table }) => table)]
  const newest = tables.map((table) => sql`, (SELECT xid FROM ${sql.literal(table)} ORDER BY xid DESC LIMIT 1)`)
  const raise = Effect.gen(function* () {
    yield* sql`SELECT pg_advisory_xact_lock(${offsetLock})`
    // After the lock and in a statement of its own, so that it sees what another node has raised meanwhile.
    return yield* sql<{ raised: string }>`
      UPDATE log_offset SET value = value + missing.xids
      FROM (
        SELECT greatest(
          (SELECT xid FROM events WHERE status = 0 ORDER BY xid DESC LIMIT 1) ${sql.join(" ", false)(newest)}
        )::text::bigint - log_xid()::text::bigint + 1 AS xids
      ) AS missing
      WHERE missing.xids > 0 RETURNING missing.xids::text AS raised`
  })
  const [row] = yield* sql.withTransaction(raise)
  if (row === undefined) return
  yield* Effect.logWarning(
    `The database was restored into a PostgreSQL that has counted ${row.raised} transactions less than its rows need. ` +
      "Positions in the log are counted on from where they were."
  )
})
