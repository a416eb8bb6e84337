/**
 * Receipts of users of this server that other servers have not received yet: the last of each destination, room, user and thread.
 *
 * Source: "Receipts" of the server-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE outgoing_receipts (
      destination text NOT NULL,
      room_id text NOT NULL,
      user_id text NOT NULL,
      thread_id text NOT NULL,
      event_id text NOT NULL,
      ts bigint NOT NULL,
      number bigint GENERATED ALWAYS AS IDENTITY,
      PRIMARY KEY (destination, room_id, user_id, thread_id)
    )`
  yield* sql`CREATE INDEX outgoing_receipts_queue ON outgoing_receipts (destination, number)`
  yield* sql`COMMENT ON COLUMN outgoing_receipts.thread_id IS 'empty for a receipt without a thread'`
  yield* sql`COMMENT ON COLUMN outgoing_receipts.ts IS 'of the receipt, in ms since 1970'`
  yield* sql`COMMENT ON COLUMN outgoing_receipts.number IS
    'the order of the queue; a newer receipt in the place of an older one has a new number'`
})
