/**
 * A part of a WITH whose statement, if it reads from `asynchronous_commit`, commits without waiting for the disk: for changes that are
 * repeated if a crash of the database undoes them. A crash may undo those of the last half second.
 *
 * Source: PostgreSQL, "Asynchronous Commit".
 */
import type { SqlClient } from "effect/sql"

export const asynchronousCommit = (sql: SqlClient.SqlClient) =>
  sql`asynchronous_commit AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))`
