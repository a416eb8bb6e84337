/**
 * Validations of addresses by this server itself: a token was sent to the address, and whoever submits it has shown that
 * the address is theirs. `token_hash` is null once that was done.
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
