/**
 * The key that signs ID tokens of OpenID Connect. All nodes sign with it, and it outlives restarts.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE id_token_key (
      id boolean PRIMARY KEY DEFAULT true CHECK (id),
      secret_key bytea NOT NULL,
      created_at bigint NOT NULL
    )`
})
