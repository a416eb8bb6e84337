/**
 * Bounds of how many rows somebody has. Two transactions that count the same rows do not see each other's, and would pass the bound
 * together: of those with the same key one waits until the other has committed, before it counts.
 *
 * Source: PostgreSQL, "Advisory Locks", "Read Committed Isolation Level".
 */
import type { UserId } from "@greenroom/protocol/Identifiers"
import * as Effect from "effect/Effect"
import type { SqlClient, SqlError } from "effect/sql"

/**
 * Runs a write that counts rows first, one at a time for each key: what is counted and whose, such as `pushers @alice:example.org`. A write
 * that locks rows of an account names it: the account is locked first, as by its deactivation, so that the two never wait for each other.
 */
export const counted =
  (sql: SqlClient.SqlClient) =>
  (key: string, account?: UserId) =>
  <A, E>(write: Effect.Effect<A, E>): Effect.Effect<A, E | SqlError.SqlError> =>
    sql.withTransaction(
      Effect.andThen(
        sql`
          SELECT pg_advisory_xact_lock(hashtextextended(${key}, 0))
            ${account === undefined ? sql.literal("") : sql`, require_active_account(${account})`}`,
        write
      )
    )
