/** Exports of the data of users that one administrator has asked for and another must approve. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE data_exports (
      export_id text PRIMARY KEY,
      user_id text NOT NULL,
      requested_by text NOT NULL,
      reason text NOT NULL,
      requested_at bigint NOT NULL,
      approved_by text CHECK (approved_by <> requested_by),
      approved_at bigint,
      expires_at bigint NOT NULL
    )`
  yield* sql`COMMENT ON COLUMN data_exports.reason IS 'JSON text'`
  yield* sql`COMMENT ON COLUMN data_exports.expires_at IS 'until then it can be approved, or read once it is approved'`
})
