/**
 * The process that runs the home server on this database, for the error message of a second one.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE database_holder (
      single boolean PRIMARY KEY DEFAULT true CHECK (single),
      id text NOT NULL,
      host text NOT NULL,
      pid integer NOT NULL,
      since bigint NOT NULL
    )`
})
