/**
 * Rooms that administrators have blocked, and the removal of rooms and of their history, which goes on after a restart.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE blocked_rooms (
      room_id text PRIMARY KEY,
      blocked_by text NOT NULL,
      blocked_at bigint NOT NULL
    )`
  yield* sql`
    CREATE TABLE room_removals (
      removal_id text PRIMARY KEY,
      kind text NOT NULL,
      room_id text NOT NULL,
      requested_by text NOT NULL,
      options text NOT NULL,
      status text NOT NULL,
      result text NOT NULL,
      error text,
      created_at bigint NOT NULL,
      finished_at bigint
    )`
  yield* sql`COMMENT ON COLUMN room_removals.kind IS 'room: shut down and perhaps purged; history: events before a point'`
  yield* sql`COMMENT ON COLUMN room_removals.status IS 'scheduled, shutting_down, purging, complete or failed'`
  yield* sql`CREATE INDEX room_removals_room ON room_removals (room_id, created_at)`
  yield* sql`CREATE INDEX room_removals_unfinished ON room_removals (created_at) WHERE finished_at IS NULL`
})
