/**
 * Receipts of users of other servers whose events are not stored yet.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE early_receipts (
      user_id text NOT NULL,
      room_id text NOT NULL,
      thread_id text NOT NULL,
      event_id text NOT NULL,
      origin text NOT NULL,
      ts bigint NOT NULL,
      received_at bigint NOT NULL,
      PRIMARY KEY (user_id, room_id, thread_id)
    )`
  yield* sql`CREATE INDEX early_receipts_of_event ON early_receipts (event_id)`
  yield* sql`CREATE INDEX early_receipts_of_origin ON early_receipts (origin, received_at)`
  yield* sql`COMMENT ON COLUMN early_receipts.thread_id IS 'empty for a receipt without a thread'`
  yield* sql`COMMENT ON COLUMN early_receipts.received_at IS 'in ms since 1970'`
})
