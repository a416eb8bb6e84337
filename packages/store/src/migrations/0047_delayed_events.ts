/**
 * Events that are sent later (MSC4140). What was sent or cancelled stays for a while, so that its author can ask what became
 * of it.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE delayed_events (
      delay_id text PRIMARY KEY,
      user_id text NOT NULL,
      token_id bigint NOT NULL,
      txn_key text NOT NULL,
      room_id text NOT NULL,
      type text NOT NULL,
      state_key text,
      content text NOT NULL,
      delay bigint NOT NULL,
      scheduled_at bigint NOT NULL,
      finalised_at bigint,
      event_id text,
      error text,
      UNIQUE (token_id, txn_key)
    )`
  yield* sql`CREATE INDEX delayed_events_due ON delayed_events ((scheduled_at + delay)) WHERE finalised_at IS NULL`
  yield* sql`CREATE INDEX delayed_events_users ON delayed_events (user_id)`
  yield* sql`CREATE INDEX delayed_events_finalised ON delayed_events (finalised_at) WHERE finalised_at IS NOT NULL`
  yield* sql`COMMENT ON COLUMN delayed_events.content IS 'JSON text'`
  yield* sql`COMMENT ON COLUMN delayed_events.delay IS 'milliseconds after scheduled_at'`
  yield* sql`COMMENT ON COLUMN delayed_events.error IS 'JSON text: why it could not be sent'`
})
