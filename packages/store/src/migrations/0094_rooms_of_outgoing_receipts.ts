/**
 * What waits for other servers is the rooms with receipts that they lack, and where these begin in the log, instead of each receipt.
 *
 * Source: "Receipts" of the server-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE outgoing_receipts RENAME TO former_outgoing_receipts`
  yield* sql`ALTER INDEX outgoing_receipts_pkey RENAME TO former_outgoing_receipts_pkey`
  yield* sql`ALTER INDEX outgoing_receipts_queue RENAME TO former_outgoing_receipts_queue`
  yield* sql`
    CREATE TABLE outgoing_receipts (
      destination text NOT NULL,
      room_nid bigint NOT NULL,
      after_xid xid8 NOT NULL,
      after_nid bigint NOT NULL,
      queued_at bigint NOT NULL,
      number bigint GENERATED ALWAYS AS IDENTITY,
      PRIMARY KEY (destination, room_nid)
    )`
  yield* sql`CREATE INDEX outgoing_receipts_queue ON outgoing_receipts (destination, number)`
  yield* sql`COMMENT ON COLUMN outgoing_receipts.after_xid IS
    'with after_nid: the destination has the receipts of the room up to this position'`
  yield* sql`COMMENT ON COLUMN outgoing_receipts.queued_at IS 'in ms since 1970'`
  yield* sql`COMMENT ON COLUMN outgoing_receipts.number IS
    'the order of the queue; a room with newer receipts has a new number'`
  yield* sql`
    INSERT INTO outgoing_receipts (destination, room_nid, after_xid, after_nid, queued_at)
    SELECT DISTINCT ON (waiting.destination, rooms.room_nid)
      waiting.destination, rooms.room_nid, receipts.xid, receipts.nid - 1, waiting.ts
    FROM former_outgoing_receipts waiting JOIN rooms USING (room_id)
    JOIN receipts ON receipts.room_nid = rooms.room_nid AND receipts.user_id = waiting.user_id
      AND receipts.type = 'm.read' AND receipts.thread_id = waiting.thread_id
    ORDER BY waiting.destination, rooms.room_nid, receipts.xid, receipts.nid`
  yield* sql`DROP TABLE former_outgoing_receipts`

  yield* sql`CREATE TABLE receipt_progress (xid xid8 NOT NULL, nid bigint NOT NULL)`
  yield* sql`COMMENT ON TABLE receipt_progress IS
    'one row: receipts up to this position of the log are queued for other servers'`
  yield* sql`INSERT INTO receipt_progress (xid, nid) VALUES (log_xid(), 0)`
})
