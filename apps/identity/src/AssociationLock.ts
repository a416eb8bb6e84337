/**
 * A lock that serialises writers of associations on all nodes. It ensures that the numbers of this server's records become visible
 * in order, so that no peer misses one, that the newest record wins, and that hashes use the current peppers.
 */
import { Effect } from "effect"
import type { SqlClient, SqlError } from "effect/sql"

/** "associat" in the bytes of ASCII. */
const lock = 0x6173736f63696174n

/** Waits for the lock and holds it until the surrounding transaction ends. */
export const lockAssociations = (sql: SqlClient.SqlClient): Effect.Effect<void, SqlError.SqlError> =>
  Effect.asVoid(sql`SELECT pg_advisory_xact_lock(${lock})`)
