/** The holder of a shard, so that the next holder can end the connections of a lost node. Null if the shard was given back. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE shard_fences ADD COLUMN holder text`
  yield* sql`COMMENT ON COLUMN shard_fences.holder IS 'application_name of the connections of the node'`
})
