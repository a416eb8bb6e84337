/**
 * Users whose accounts were deactivated with erasure: users and servers who were not there see their events without content.
 * The rows travel with the log, so that every node knows.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE erasures (user_id text PRIMARY KEY)`
  yield* sql`INSERT INTO erasures SELECT user_id FROM users WHERE erased`
  yield* sql`SELECT add_to_log('erasures')`
})
