/** State whose signatures cannot be checked is asked for again when one of its members speaks: it is not kept. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`ALTER TABLE unverified_pdus DROP COLUMN is_state`
})
