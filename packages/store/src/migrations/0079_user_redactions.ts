/**
 * Redactions of all that a user has sent, which administrators have asked for, and which go on after a restart.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE user_redactions (
      redact_id text PRIMARY KEY,
      user_id text NOT NULL,
      sender text NOT NULL,
      requested_by text NOT NULL,
      options text NOT NULL,
      status text NOT NULL,
      failed text NOT NULL,
      until_xid xid8 NOT NULL DEFAULT log_xid(),
      created_at bigint NOT NULL,
      finished_at bigint
    )`
  yield* sql`COMMENT ON COLUMN user_redactions.sender IS 'the user who redacts: the same one, or an administrator'`
  yield* sql`COMMENT ON COLUMN user_redactions.status IS 'scheduled, active, completed or failed'`
  yield* sql`COMMENT ON COLUMN user_redactions.failed IS 'JSON: errors by event ID'`
  yield* sql`COMMENT ON COLUMN user_redactions.until_xid IS 'later events stay'`
  yield* sql`CREATE INDEX user_redactions_user ON user_redactions (user_id, created_at)`
  yield* sql`CREATE INDEX user_redactions_unfinished ON user_redactions (created_at) WHERE finished_at IS NULL`
})
