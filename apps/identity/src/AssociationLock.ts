/**
 * One writer of associations at a time, on all nodes: so that the numbers of our own records become visible in their
 * order and no peer misses one, that the newest record holds, and that hashes are made with the peppers that hold.
 */
import { Effect } from "effect"
import type { SqlClient, SqlError } from "effect/sql"

/** "associat" in the bytes of ASCII. */
const lock = 0x6173736f63696174n

/** Waits for the lock and holds it until the surrounding transaction ends. */
export const lockAssociations = (sql: SqlClient.SqlClient): Effect.Effect<void, SqlError.SqlError> =>
  Effect.asVoid(sql`SELECT pg_advisory_xact_lock(${lock})`)
