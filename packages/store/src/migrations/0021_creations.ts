/**
 * A repeated request to make a room does not know the room's ID: the answers to such requests are found without it.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    UPDATE client_transactions SET scope = 'createRoom'
    WHERE starts_with(txn_id, 'createRoom/') AND starts_with(scope, '!')`
})
