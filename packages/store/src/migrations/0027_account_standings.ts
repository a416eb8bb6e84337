/**
 * Locked and suspended accounts, whose changes are rows of the log so that every node reads them; guest accounts; and accounts whose
 * content is to be erased.
 *
 * Source: "Account moderation" and "Guest Access" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    ALTER TABLE users
      ADD COLUMN guest boolean NOT NULL DEFAULT false,
      ADD COLUMN erased boolean NOT NULL DEFAULT false`
  yield* sql`
    CREATE TABLE account_standings (
      user_id text PRIMARY KEY REFERENCES users,
      locked boolean NOT NULL,
      suspended boolean NOT NULL
    )`
  yield* sql`SELECT add_to_log('account_standings')`
})
