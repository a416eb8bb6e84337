/** The number of files that each user has uploaded, which is bounded like their bytes. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE media_usage ADD COLUMN files bigint NOT NULL DEFAULT 0`
  yield* sql`
    UPDATE media_usage SET files = uploads.count FROM (
      SELECT user_id, count(*) FROM media WHERE user_id IS NOT NULL AND sha256 IS NOT NULL GROUP BY user_id
    ) AS uploads
    WHERE media_usage.user_id = uploads.user_id`
})
