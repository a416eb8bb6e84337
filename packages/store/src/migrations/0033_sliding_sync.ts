/**
 * Simplified sliding sync: the last event of each room, by which room lists are ordered, and the rooms that connections have been
 * sent.
 *
 * A connection has the state of two versions: the one that its client has acknowledged, and the one that it was sent last.
 * The row of a room that holds for a version is the newest one up to it.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE rooms ADD COLUMN latest_xid xid8, ADD COLUMN latest_nid bigint`
  yield* sql`COMMENT ON COLUMN rooms.latest_nid IS 'with latest_xid: the position of the last event in the timeline'`
  yield* sql`
    UPDATE rooms SET latest_xid = newest.xid, latest_nid = newest.nid
    FROM (SELECT DISTINCT ON (room_nid) room_nid, xid, nid FROM events WHERE status <= 1
          ORDER BY room_nid, xid DESC, nid DESC) AS newest
    WHERE newest.room_nid = rooms.room_nid`

  yield* sql`
    CREATE TABLE sliding_connections (
      connection bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      user_id text NOT NULL,
      device_id text NOT NULL,
      name text NOT NULL,
      acknowledged bigint NOT NULL,
      latest bigint NOT NULL,
      configs jsonb NOT NULL DEFAULT '[]',
      used_at bigint NOT NULL,
      UNIQUE (user_id, device_id, name)
    )`
  yield* sql`COMMENT ON COLUMN sliding_connections.configs IS 'what rooms were sent with; rows of rooms name one by its index'`

  yield* sql`
    CREATE TABLE sliding_rooms (
      connection bigint NOT NULL REFERENCES sliding_connections ON DELETE CASCADE,
      room_nid bigint NOT NULL,
      version bigint NOT NULL,
      config smallint NOT NULL,
      sent_xid xid8,
      sent_nid bigint,
      PRIMARY KEY (connection, room_nid, version)
    )`
  yield* sql`COMMENT ON COLUMN sliding_rooms.sent_nid IS 'with sent_xid: up to where the room was sent; null while it is sent with each answer'`
  yield* sql`CREATE INDEX sliding_rooms_version ON sliding_rooms (connection, version)`
})
