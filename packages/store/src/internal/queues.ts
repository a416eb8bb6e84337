/**
 * The queues of other servers in a table with the column `destination`, which an index begins with.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Clock, Effect } from "effect"
import type { SqlClient, SqlError, Statement } from "effect/sql"
import { isBackedOff } from "../DestinationStore.ts"

/**
 * The beginning of a statement: `queues` has each destination, and one NULL. Steps from one destination to the next in the index,
 * however many rows wait for each.
 */
export const queuesOf = (sql: SqlClient.SqlClient, table: string): Statement.Fragment => sql`
  WITH RECURSIVE queues AS (
    (SELECT destination FROM ${sql(table)} ORDER BY destination LIMIT 1)
    UNION ALL
    SELECT (
      SELECT further.destination FROM ${sql(table)} further WHERE further.destination > queues.destination
      ORDER BY further.destination LIMIT 1)
    FROM queues WHERE queues.destination IS NOT NULL)`

/** A destination for which something waits, and when it may be tried; in the past if it may be tried now. */
export interface WaitingDestination {
  readonly destination: ServerName
  /** Milliseconds since 1970. */
  readonly retryAt: number
}

export const waitingIn = (
  sql: SqlClient.SqlClient,
  table: string
): Effect.Effect<ReadonlyArray<WaitingDestination>, SqlError.SqlError> =>
  Effect.gen(function* () {
    const backedOff = isBackedOff(sql, "destinations", yield* Clock.currentTimeMillis)
    const rows = yield* sql<{ destination: string; retry_at: bigint }>`
      ${queuesOf(sql, table)} SELECT queues.destination, CASE WHEN ${backedOff} THEN retry_at ELSE 0 END AS retry_at
      FROM queues LEFT JOIN destinations USING (destination) WHERE queues.destination IS NOT NULL`
    return rows.map((row) => ({ destination: row.destination as ServerName, retryAt: Number(row.retry_at) }))
  })
