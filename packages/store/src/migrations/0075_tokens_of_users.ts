/** OpenID tokens and login tokens are found by their user: a user has a bounded number of each. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE INDEX openid_tokens_of_users ON openid_tokens (user_id, expires_at)`
  yield* sql`CREATE INDEX login_tokens_of_users ON login_tokens (user_id, expires_at)`
})
