/** When access tokens were last used. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  // Tokens from before this migration count from now on.
  yield* sql`
    ALTER TABLE accounts ADD COLUMN used_at bigint NOT NULL DEFAULT (extract(epoch FROM now()) * 1000)::bigint`
  yield* sql`COMMENT ON COLUMN accounts.used_at IS 'the last use, to within a day'`
})
