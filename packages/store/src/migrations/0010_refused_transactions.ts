/**
 * How often the destination has refused a transaction: what is refused again and again is split, and in the end dropped.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE outgoing_transactions ADD COLUMN refusals integer NOT NULL DEFAULT 0`
})
