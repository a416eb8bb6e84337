/**
 * Guests are found without reading all accounts.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE INDEX users_guests ON users (user_id) WHERE guest`
})
