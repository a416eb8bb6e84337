/**
 * The end of the stored log: the position of its last row, over all kinds.
 *
 * Positions in the log begin with the number of a transaction plus an offset (`log_xid()`), so the next number must lie
 * above all that are stored. PostgreSQL sees to that, except if a dump was restored into a database cluster that has
 * not counted as far: rows would be read late or never, and out of order. The offset is raised then. Order and tokens stay
 * what they were.
 */
import { Effect } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import type { StreamPosition } from "../StreamToken.ts"
import { logEdge } from "./logEdge.ts"
import { logKinds } from "./logKinds.ts"
import { positionOf } from "./positionSql.ts"

/** The last row of the log, deleted ones included; of those below the low watermark with `complete`. */
export const lastStored = (
  sql: SqlClient.SqlClient,
  { complete = false }: { readonly complete?: boolean } = {}
): Effect.Effect<StreamPosition, SqlError.SqlError> => {
  const below = complete ? sql`xid < (SELECT edge FROM complete)` : sql`true`
  const last = (table: string, condition = sql`true`) =>
    sql`(SELECT xid, nid FROM ${sql.literal(table)} WHERE ${condition} AND ${below} ORDER BY xid DESC, nid DESC LIMIT 1)`
  const tables = ["membership_changes", "log_high", ...logKinds.map(({ table }) => table)]
  return Effect.map(
    sql<{ xid: string; nid: bigint }>`
      WITH complete AS MATERIALIZED (SELECT ${logEdge(sql)} AS edge)
      SELECT xid::text AS xid, nid FROM (
        ${last("events", sql`status = 0`)} ${sql.join(" ", false)(tables.map((table) => sql`UNION ALL ${last(table)}`))}
      ) AS stored
      ORDER BY stored.xid DESC, stored.nid DESC LIMIT 1`,
    ([row]) => (row === undefined ? { xid: 0, nid: 0 } : positionOf(row))
  )
}

/** Makes sure that commits from now on are after everything up to a position. For one node at a time. */
export const countOnAfter = Effect.fnUntraced(function* (sql: SqlClient.SqlClient, { xid }: StreamPosition) {
  const [row] = yield* sql<{ raised: string }>`
    UPDATE log_offset SET value = value + missing.xids
    FROM (SELECT ${xid}::bigint - log_xid()::text::bigint + 1 AS xids) AS missing
    WHERE missing.xids > 0 RETURNING missing.xids::text AS raised`
  if (row === undefined) return
  yield* Effect.logWarning(
    `The database was restored into a PostgreSQL that has counted ${row.raised} transactions less than its rows need. ` +
      "Positions in the log are counted on from where they were."
  )
})
