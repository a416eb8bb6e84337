/**
 * User data: account data, filters, push rules, and read positions.
 *
 * Rows of account data and receipts have the `xid` of the transaction that wrote them last, as events do: readers of the log select
 * the rows between two positions. Contents are JSON text.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE account_data (
      user_id text NOT NULL,
      room_id text NOT NULL,
      type text NOT NULL,
      content text NOT NULL,
      xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
      PRIMARY KEY (user_id, room_id, type)
    )`
  yield* sql`COMMENT ON COLUMN account_data.room_id IS 'empty for data of the account as a whole'`
  yield* sql`CREATE INDEX account_data_stream ON account_data (user_id, xid)`

  yield* sql`
    CREATE TABLE receipts (
      room_nid bigint NOT NULL,
      user_id text NOT NULL,
      type text NOT NULL,
      thread_id text NOT NULL,
      event_id text NOT NULL,
      event_xid xid8 NOT NULL,
      event_nid bigint NOT NULL,
      ts bigint NOT NULL,
      xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
      PRIMARY KEY (room_nid, user_id, type, thread_id)
    )`
  yield* sql`COMMENT ON COLUMN receipts.thread_id IS 'empty for a receipt without a thread'`
  yield* sql`CREATE INDEX receipts_stream ON receipts (room_nid, xid)`

  yield* sql`
    CREATE TABLE filters (
      user_id text NOT NULL,
      filter_id bigint GENERATED ALWAYS AS IDENTITY,
      hash bytea NOT NULL,
      definition text NOT NULL,
      PRIMARY KEY (user_id, filter_id),
      UNIQUE (user_id, hash)
    )`
  yield* sql`COMMENT ON COLUMN filters.hash IS 'SHA-256 of the definition: the same filter has one ID'`

  yield* sql`
    CREATE TABLE push_rules (
      user_id text PRIMARY KEY,
      settings text NOT NULL
    )`
  yield* sql`COMMENT ON TABLE push_rules IS 'what users changed of the default push rules'`
})
