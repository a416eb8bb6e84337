/**
 * Marks by which the age of rows of `push_actions` and `mentions` is known, so that old ones that were read can go.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE push_marks (at bigint PRIMARY KEY, nid bigint NOT NULL)`
  yield* sql`COMMENT ON COLUMN push_marks.nid IS 'rows of before this time have lower numbers'`
})
