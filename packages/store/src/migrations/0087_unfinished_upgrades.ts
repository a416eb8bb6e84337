/**
 * Upgrades of rooms that are in progress, so that one that is interrupted is finished without being asked for again.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE unfinished_upgrades (
      room_id text NOT NULL,
      user_id text NOT NULL,
      new_version text NOT NULL,
      additional_creators text[] NOT NULL,
      since bigint NOT NULL,
      attempts integer NOT NULL DEFAULT 0,
      retry_at bigint NOT NULL,
      PRIMARY KEY (room_id, user_id)
    )`
  yield* sql`COMMENT ON COLUMN unfinished_upgrades.since IS 'in ms since 1970'`
  yield* sql`COMMENT ON COLUMN unfinished_upgrades.attempts IS 'how often it was tried again'`
  yield* sql`COMMENT ON COLUMN unfinished_upgrades.retry_at IS 'not to be tried again before, in ms since 1970'`
})
