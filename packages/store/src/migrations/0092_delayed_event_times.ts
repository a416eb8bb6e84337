/**
 * Delayed events that were scheduled before the clock was set back are found by their times.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE INDEX delayed_events_scheduled ON delayed_events (scheduled_at) WHERE finalised_at IS NULL`
})
