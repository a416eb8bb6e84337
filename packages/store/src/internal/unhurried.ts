/**
 * A part of a WITH whose statement, if it reads from `unhurried`, commits without waiting for the disk: for changes that are
 * repeated if a crash of the database undoes them. Those of the last half second may be undone.
 */
import type { SqlClient } from "effect/sql"

export const unhurried = (sql: SqlClient.SqlClient) =>
  sql`unhurried AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))`
