/** The bytes of the keys of each version of a key backup, which are bounded. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE key_backups ADD COLUMN bytes bigint NOT NULL DEFAULT 0`
  yield* sql`COMMENT ON COLUMN key_backups.bytes IS 'how many bytes of session_data the keys have'`
  yield* sql`
    UPDATE key_backups SET bytes = stored.bytes FROM (
      SELECT user_id, version, sum(octet_length(session_data)) AS bytes FROM backed_up_keys GROUP BY user_id, version
    ) AS stored
    WHERE (stored.user_id, stored.version) = (key_backups.user_id, key_backups.version)`
})
