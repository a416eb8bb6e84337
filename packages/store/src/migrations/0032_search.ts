/**
 * The full-text index of what is said in rooms. It is built beside the log, in batches, from `search_progress` on; history
 * that comes later than its place in the log waits in `search_queue`.
 *
 * Source: PostgreSQL, "Full Text Search".
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE event_search (
      nid bigint PRIMARY KEY,
      room_nid bigint NOT NULL,
      xid xid8 NOT NULL,
      key text NOT NULL,
      vector tsvector NOT NULL
    )`
  yield* sql`CREATE INDEX event_search_words ON event_search USING gin (vector)`
  yield* sql`COMMENT ON COLUMN event_search.key IS 'where the text is in the event, such as content.body'`
  yield* sql`CREATE TABLE search_progress (xid xid8 NOT NULL, nid bigint NOT NULL)`
  yield* sql`COMMENT ON TABLE search_progress IS 'one row: up to which position of the log the timeline is indexed'`
  yield* sql`INSERT INTO search_progress VALUES ('0', 0)`
  yield* sql`CREATE TABLE search_queue (nid bigint PRIMARY KEY)`
  yield* sql`COMMENT ON TABLE search_queue IS 'history that is to be indexed'`
  yield* sql`
    INSERT INTO search_queue
    SELECT nid FROM events WHERE status = 1 AND type IN ('m.room.message', 'm.room.name', 'm.room.topic')`
})
