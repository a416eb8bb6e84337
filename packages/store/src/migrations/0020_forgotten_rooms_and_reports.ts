/**
 * Rooms that users have left and forgotten, and reports of users for administrators.
 *
 * Source: "Leaving rooms" and "Reporting Content" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE forgotten_rooms (
      user_id text NOT NULL,
      room_nid bigint NOT NULL,
      xid xid8 NOT NULL DEFAULT log_xid(),
      PRIMARY KEY (user_id, room_nid)
    )`
  yield* sql`COMMENT ON COLUMN forgotten_rooms.xid IS 'what was before this position is forgotten'`
  yield* sql`
    CREATE TABLE reports (
      report_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      reporter text NOT NULL,
      room_id text,
      event_id text,
      user_id text,
      reason text NOT NULL,
      created_at bigint NOT NULL
    )`
  yield* sql`COMMENT ON COLUMN reports.reason IS 'JSON text'`
  yield* sql`CREATE INDEX reports_reporter ON reports (reporter, created_at)`
})
