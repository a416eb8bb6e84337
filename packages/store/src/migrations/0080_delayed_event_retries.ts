/**
 * Delayed events whose room is not available when they are due are sent later.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE delayed_events ADD COLUMN retry_at bigint`
  yield* sql`COMMENT ON COLUMN delayed_events.retry_at IS 'not to be sent before: the last attempt met a room that was away'`
  yield* sql`DROP INDEX delayed_events_due`
  yield* sql`
    CREATE INDEX delayed_events_due ON delayed_events (greatest(scheduled_at + delay, retry_at)) WHERE finalised_at IS NULL`
})
