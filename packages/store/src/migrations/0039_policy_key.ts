/**
 * The key by which this server signs as a policy server. Rooms name it, so it is made once.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE policy_key (
      id boolean PRIMARY KEY DEFAULT true CHECK (id),
      secret_key bytea NOT NULL,
      created_at bigint NOT NULL
    )`
})
