/**
 * Keys of other servers from notaries, the signed key objects that this server passes on as a notary, and PDUs that wait for keys.
 * Times are milliseconds since 1970 (`bigint`).
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`ALTER TABLE remote_keys ADD COLUMN vouchers text[], ADD COLUMN first_fetched_at bigint`
  yield* sql`UPDATE remote_keys SET first_fetched_at = fetched_at`
  yield* sql`ALTER TABLE remote_keys ALTER COLUMN first_fetched_at SET NOT NULL`
  yield* sql`
    COMMENT ON COLUMN remote_keys.vouchers IS 'the servers that told of the key; NULL if its own server did'`
  yield* sql`
    COMMENT ON COLUMN remote_keys.first_fetched_at IS 'when the server was first asked for it; of vouched keys, when it was told'`

  // Key objects as the server signed them. Each has a key that no later object of the same server has.
  yield* sql`
    CREATE TABLE remote_key_objects (
      id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
      server_name text NOT NULL,
      key_ids text[] NOT NULL,
      object text NOT NULL,
      valid_until bigint NOT NULL,
      fetched_at bigint NOT NULL,
      is_vouched boolean NOT NULL
    )`
  yield* sql`CREATE INDEX remote_key_objects_server ON remote_key_objects (server_name)`

  // The notaries of a room: the servers through which this server joined it.
  yield* sql`
    CREATE TABLE room_vouchers (
      room_id text NOT NULL,
      server_name text NOT NULL,
      joined_at bigint NOT NULL,
      PRIMARY KEY (room_id, server_name)
    )`

  // PDUs whose signatures cannot be verified until the keys of their server are known.
  yield* sql`
    CREATE TABLE unverified_pdus (
      id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
      room_id text NOT NULL,
      event_id text NOT NULL,
      signer text NOT NULL,
      origin text NOT NULL,
      is_state boolean NOT NULL,
      pdu text NOT NULL,
      received_at bigint NOT NULL,
      UNIQUE (room_id, event_id)
    )`
  yield* sql`COMMENT ON COLUMN unverified_pdus.origin IS 'the server that told of the PDU'`
  yield* sql`COMMENT ON COLUMN unverified_pdus.is_state IS 'whether it was told as a part of the state at our join'`
  yield* sql`CREATE INDEX unverified_pdus_signer ON unverified_pdus (signer)`
  yield* sql`CREATE INDEX unverified_pdus_origin ON unverified_pdus (origin)`
})
