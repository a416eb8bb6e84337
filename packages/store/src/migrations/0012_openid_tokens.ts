/**
 * Tokens that prove to third parties who a user is. They give no access to the account.
 *
 * Source: "OpenID" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE openid_tokens (
      token_hash bytea PRIMARY KEY,
      user_id text NOT NULL REFERENCES users,
      expires_at bigint NOT NULL
    )`
  yield* sql`CREATE INDEX openid_tokens_age ON openid_tokens (expires_at)`
})
