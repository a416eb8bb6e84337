/** `/sync` reads the memberships of a user that changed between two positions. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE INDEX membership_changes_user ON membership_changes (user_id, xid, nid)`
})
