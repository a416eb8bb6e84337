/**
 * Denied requests to see presence: a later request of the same observer waits for an answer, also if it would
 * be accepted at once otherwise.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE presence_denials (
      observed text NOT NULL,
      observer text NOT NULL,
      PRIMARY KEY (observed, observer)
    )`
})
