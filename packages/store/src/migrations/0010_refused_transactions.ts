/**
 * How often the destination has refused a transaction. A transaction that is refused repeatedly is split, and in the end dropped.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE outgoing_transactions ADD COLUMN refusals integer NOT NULL DEFAULT 0`
})
