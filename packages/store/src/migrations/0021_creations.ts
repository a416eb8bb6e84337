/**
 * Answers to requests that create a room are found without the ID of the room, which a repeated request does not have.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    UPDATE client_transactions SET scope = 'createRoom'
    WHERE starts_with(txn_id, 'createRoom/') AND starts_with(scope, '!')`
})
