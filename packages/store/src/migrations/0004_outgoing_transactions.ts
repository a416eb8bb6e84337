/**
 * Outgoing transactions, the last transactions of each server, and the servers of each room.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  // A transaction is stored before its first attempt, so that each attempt sends the same one, and for some time after its
  // acknowledgement, so that the destination can request it again. `number` orders the transactions of a destination. The PDUs stay in
  // `outgoing_pdus` until the transaction is acknowledged.
  yield* sql`
    CREATE TABLE outgoing_transactions (
      destination text NOT NULL,
      number bigint NOT NULL,
      transaction_id text NOT NULL,
      ts bigint NOT NULL,
      prev_ids text[] NOT NULL,
      event_nids bigint[] NOT NULL,
      acknowledged_at bigint,
      PRIMARY KEY (destination, number),
      UNIQUE (destination, transaction_id)
    )`
  yield* sql`COMMENT ON TABLE outgoing_transactions IS 'times are milliseconds since 1970'`
  // At most one transaction in flight for each destination.
  yield* sql`
    CREATE UNIQUE INDEX outgoing_transactions_in_flight ON outgoing_transactions (destination)
    WHERE acknowledged_at IS NULL`
  yield* sql`CREATE INDEX outgoing_transactions_age ON outgoing_transactions USING brin (acknowledged_at)`

  yield* sql`CREATE INDEX received_transactions_latest ON received_transactions (origin, received_at)`

  yield* sql`
    ALTER TABLE memberships
    ADD COLUMN server text NOT NULL GENERATED ALWAYS AS (substr(user_id, strpos(user_id, ':') + 1)) STORED`
  yield* sql`CREATE INDEX memberships_server ON memberships (room_nid, server) WHERE membership = 'join'`
})
