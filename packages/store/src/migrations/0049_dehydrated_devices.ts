/**
 * Dehydrated devices (MSC3814), which receive keys while nobody is logged in; and the sessions by which two devices meet for a
 * sign-in by QR code (MSC4108, MSC4388), which need not survive a crash.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE dehydrated_devices (
      user_id text PRIMARY KEY,
      device_id text NOT NULL,
      data text NOT NULL,
      FOREIGN KEY (user_id, device_id) REFERENCES access_tokens (user_id, device_id) ON DELETE CASCADE
    )`
  yield* sql`COMMENT ON COLUMN dehydrated_devices.data IS 'JSON text that the server cannot read'`
  yield* sql`
    CREATE UNLOGGED TABLE rendezvous (
      id text PRIMARY KEY,
      data text NOT NULL,
      sequence bigint NOT NULL DEFAULT 1,
      expires_at bigint NOT NULL
    )`
  yield* sql`CREATE INDEX rendezvous_age ON rendezvous (expires_at)`
})
