/**
 * The audit log: what administrators did, each row with the hash of the one before it, and the signed heads of the chain.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE audit_log (
      seq bigint PRIMARY KEY,
      at bigint NOT NULL,
      actor text NOT NULL,
      action text NOT NULL,
      target text,
      reason text,
      details text NOT NULL,
      previous bytea NOT NULL,
      hash bytea NOT NULL
    )`
  yield* sql`COMMENT ON COLUMN audit_log.reason IS 'JSON text'`
  yield* sql`COMMENT ON COLUMN audit_log.details IS 'JSON text of the parameters, without secrets'`
  yield* sql`COMMENT ON COLUMN audit_log.hash IS 'SHA-256 of the other columns, previous included'`
  yield* sql`
    CREATE TABLE audit_heads (
      seq bigint PRIMARY KEY,
      hash bytea NOT NULL,
      signed_at bigint NOT NULL,
      key_id text NOT NULL,
      signature text NOT NULL
    )`
})
