/** The row of the audit log at which work that outlasts its request records its failure. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  for (const table of ["room_removals", "user_redactions", "waiting_notices"]) {
    yield* sql`ALTER TABLE ${sql(table)} ADD COLUMN audit_seq bigint`
    yield* sql.unsafe(`COMMENT ON COLUMN ${table}.audit_seq IS 'the row of audit_log of the request'`)
  }
})
