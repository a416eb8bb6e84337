/**
 * A row of `access_tokens` becomes a login on one device, with an access token and a refresh token. A refresh adds the next pair,
 * which replaces the current pair on its first use. A login token is valid once.
 *
 * Source: "Refreshing access tokens" and "Token-based" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    ALTER TABLE access_tokens
      ADD COLUMN refresh_hash bytea UNIQUE,
      ADD COLUMN next_token_hash bytea UNIQUE,
      ADD COLUMN next_refresh_hash bytea UNIQUE,
      ADD COLUMN next_expires_at bigint,
      ADD COLUMN last_seen_address text`
  yield* sql`CREATE UNIQUE INDEX access_tokens_device ON access_tokens (user_id, device_id)`
  yield* sql`DROP INDEX access_tokens_user`

  yield* sql`
    CREATE TABLE login_tokens (
      token_hash bytea PRIMARY KEY,
      user_id text NOT NULL REFERENCES users,
      expires_at bigint NOT NULL
    )`
  yield* sql`CREATE INDEX login_tokens_age ON login_tokens (expires_at)`
})
