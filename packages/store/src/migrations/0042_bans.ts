/**
 * Users, servers and content that administrators have banned. The rows travel with the log, so that every node knows; a
 * ban that was lifted stays as a row.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE bans (
      kind text NOT NULL,
      value text NOT NULL,
      active boolean NOT NULL,
      reason text NOT NULL,
      banned_by text NOT NULL,
      changed_at bigint NOT NULL,
      PRIMARY KEY (kind, value)
    )`
  yield* sql`COMMENT ON COLUMN bans.kind IS 'user, server, or sha256 of content in hexadecimal digits'`
  yield* sql`COMMENT ON COLUMN bans.reason IS 'JSON text'`
  yield* sql`SELECT add_to_log('bans')`
})
