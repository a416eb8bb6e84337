/**
 * The access token that the last refresh replaced. Its login goes on, so a client that uses it once more is not logged out
 * (`soft_logout`).
 *
 * Source: "Refreshing access tokens" and "Soft logout" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`ALTER TABLE access_tokens ADD COLUMN former_token_hash bytea`
  yield* sql`
    CREATE INDEX access_tokens_former ON access_tokens (former_token_hash) WHERE former_token_hash IS NOT NULL`
})
