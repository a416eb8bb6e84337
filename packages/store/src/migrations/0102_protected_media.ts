/** Uploads that administrators protect from quarantine and from removal by age. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE media ADD COLUMN protected boolean NOT NULL DEFAULT false`
})
