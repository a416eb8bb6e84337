/**
 * Validations of addresses by this server: the owner of the address submits a token that was sent to it. `token_hash` is null once the
 * token was submitted.
 *
 * Source: "Adding Account Administrative Contact Information" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE address_validations (
      sid text PRIMARY KEY,
      secret_hash bytea NOT NULL,
      medium text NOT NULL,
      address text NOT NULL,
      token_hash bytea,
      send_attempt bigint NOT NULL,
      tries integer NOT NULL DEFAULT 0,
      next_link text,
      validated_at bigint,
      expires_at bigint NOT NULL,
      UNIQUE (secret_hash, medium, address)
    )`
  yield* sql`CREATE INDEX address_validations_age ON address_validations (expires_at)`
})
