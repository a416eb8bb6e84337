/**
 * Bounds of how many rows somebody has. Two transactions that count the same rows do not see each other's, and would pass the bound
 * together: of those with the same key one waits until the other has committed, before it counts.
 *
 * Source: PostgreSQL, "Advisory Locks", "Read Committed Isolation Level".
 */
import * as Effect from "effect/Effect"
import type { SqlClient, SqlError } from "effect/sql"

/** Runs a write that counts rows first, one at a time for each key: what is counted and whose, such as `pushers @alice:example.org`. */
export const counted =
  (sql: SqlClient.SqlClient) =>
  (key: string) =>
  <A, E>(write: Effect.Effect<A, E>): Effect.Effect<A, E | SqlError.SqlError> =>
    sql.withTransaction(Effect.andThen(sql`SELECT pg_advisory_xact_lock(hashtextextended(${key}, 0))`, write))
