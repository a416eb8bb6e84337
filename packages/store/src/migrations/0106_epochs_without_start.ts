/** The start of an epoch was never read: the order of the log says which epoch follows which. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`ALTER TABLE log_epochs DROP COLUMN started_at`
})
