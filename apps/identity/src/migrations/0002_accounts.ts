/**
 * Version 2 of the API: users with access tokens, the terms that they have accepted, and an ephemeral key of each invitation.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE accounts (
      token_hash bytea PRIMARY KEY,
      user_id text NOT NULL,
      created_at bigint NOT NULL
    )`
  yield* sql`CREATE INDEX accounts_user ON accounts (user_id, created_at)`
  yield* sql`
    CREATE TABLE accepted_terms (
      user_id text NOT NULL,
      url text NOT NULL,
      PRIMARY KEY (user_id, url)
    )`
  yield* sql`ALTER TABLE invites ADD COLUMN ephemeral_key text`
  yield* sql`CREATE INDEX invites_ephemeral_key ON invites (ephemeral_key) WHERE ephemeral_key IS NOT NULL`
})
