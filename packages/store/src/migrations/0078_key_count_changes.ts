/**
 * When the counts of a device's keys changed last: answers of `/sync` have the counts, which are kept in memory between changes.
 *
 * Source: "Extensions to /sync" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE key_count_changes (
      user_id text NOT NULL,
      device_id text NOT NULL,
      PRIMARY KEY (user_id, device_id),
      FOREIGN KEY (user_id, device_id) REFERENCES access_tokens (user_id, device_id) ON DELETE CASCADE
    )`
  yield* sql`SELECT add_to_log('key_count_changes')`
  yield* sql`COMMENT ON TABLE key_count_changes IS 'one-time or fallback keys of the device were uploaded or claimed'`
})
