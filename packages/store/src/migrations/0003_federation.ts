/**
 * The tables of federation: keys of other servers, back-off of destinations, and received transactions.
 * Times are milliseconds since 1970 (`bigint`).
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  // Keys that a server no longer lists are kept to verify earlier signatures.
  yield* sql`
    CREATE TABLE remote_keys (
      server_name text NOT NULL,
      key_id text NOT NULL,
      public_key bytea NOT NULL,
      valid_until bigint NOT NULL,
      expired_at bigint,
      fetched_at bigint NOT NULL,
      PRIMARY KEY (server_name, key_id)
    )`
  yield* sql`COMMENT ON COLUMN remote_keys.valid_until IS 'until when a current key is believed without asking again'`
  yield* sql`COMMENT ON COLUMN remote_keys.expired_at IS 'when the server stopped to sign with it; NULL while it is current'`

  // The back-off of each destination, shared by all nodes. A destination that never failed may have no row.
  yield* sql`
    CREATE TABLE destinations (
      destination text PRIMARY KEY,
      failures integer NOT NULL DEFAULT 0,
      retry_at bigint NOT NULL DEFAULT 0,
      last_success_at bigint,
      last_failure_at bigint,
      last_error text
    )`
  yield* sql`COMMENT ON COLUMN destinations.failures IS 'in a row; 0 when it was reached last'`
  yield* sql`COMMENT ON COLUMN destinations.last_error IS 'JSON text'`

  // Answers to transactions of other servers: a repeat gets the same answer.
  yield* sql`
    CREATE TABLE received_transactions (
      origin text NOT NULL,
      transaction_id text NOT NULL,
      answer text NOT NULL,
      received_at bigint NOT NULL,
      PRIMARY KEY (origin, transaction_id)
    )`
  yield* sql`CREATE INDEX received_transactions_age ON received_transactions USING brin (received_at)`
})
