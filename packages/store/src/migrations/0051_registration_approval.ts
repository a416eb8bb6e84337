/** Accounts that wait until an administrator approves them. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE users ADD COLUMN awaiting_approval boolean NOT NULL DEFAULT false`
  yield* sql`CREATE INDEX users_awaiting_approval ON users (created_at, user_id) WHERE awaiting_approval`
})
