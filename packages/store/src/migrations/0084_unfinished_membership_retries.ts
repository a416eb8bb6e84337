/**
 * Unfinished memberships are tried again after a wait that grows with each attempt.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    ALTER TABLE unfinished_memberships
      ADD COLUMN attempts integer NOT NULL DEFAULT 0,
      ADD COLUMN retry_at bigint NOT NULL DEFAULT 0`
  yield* sql`COMMENT ON COLUMN unfinished_memberships.attempts IS 'how often it was tried again'`
  yield* sql`COMMENT ON COLUMN unfinished_memberships.retry_at IS 'not to be tried again before, in ms since 1970'`
})
