/**
 * Clients that registered themselves for the OAuth 2.0 API, and which of them a login belongs to. Authorisations that are
 * under way lie in `login_sessions`. A user may reset their cross-signing keys until the time in `users`.
 *
 * Source: "OAuth 2.0 API" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE oauth_clients (
      client_id text PRIMARY KEY,
      metadata text NOT NULL,
      metadata_hash bytea NOT NULL UNIQUE,
      registered_at bigint NOT NULL
    )`
  yield* sql`ALTER TABLE access_tokens ADD COLUMN client_id text`
  yield* sql`CREATE INDEX access_tokens_client ON access_tokens (client_id) WHERE client_id IS NOT NULL`
  yield* sql`ALTER TABLE users ADD COLUMN keys_reset_until bigint`
})
