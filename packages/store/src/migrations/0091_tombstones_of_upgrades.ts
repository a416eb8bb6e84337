/**
 * An upgrade that was interrupted is finished only while the room is as it was when it began.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE unfinished_upgrades ADD COLUMN tombstone text`
  yield* sql`COMMENT ON COLUMN unfinished_upgrades.tombstone IS 'the tombstone that the room had before'`
})
