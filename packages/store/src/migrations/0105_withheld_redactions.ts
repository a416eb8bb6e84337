/** Redactions that strip nothing have a status of their own. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`COMMENT ON COLUMN events.status IS
    '0 timeline, 1 back-filled, 2 soft-failed, 3 rejected, 4 outlier (known, but not placed in the graph), 5 withheld redaction'`
})
