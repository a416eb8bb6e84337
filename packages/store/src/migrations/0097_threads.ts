/**
 * A row for each thread, with the number of its events and the newest one: a list of threads, and the summary of one, cost the same however
 * many events the threads have. Events are in a thread by a relation of their own here; `events.thread_id` also has those that relate to an
 * event in it, which are not part of the summary.
 *
 * The relations of an event are found by their type, in the order of the log.
 *
 * Source: "Server-side aggregation of m.thread relationships" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE threads (
      root text NOT NULL,
      room_nid bigint NOT NULL,
      events integer NOT NULL,
      xid xid8 NOT NULL,
      nid bigint NOT NULL,
      PRIMARY KEY (root, room_nid)
    )`
  yield* sql`COMMENT ON COLUMN threads.events IS 'how many events are in the thread, without its root'`
  yield* sql`COMMENT ON COLUMN threads.nid IS 'of the newest event in the thread, as xid'`
  yield* sql`CREATE INDEX threads_newest ON threads (room_nid, xid, nid)`
  yield* sql`COMMENT ON COLUMN events.thread_id IS
    'the root of the thread of the event, or of the one of an event that it relates to; NULL also once the event was redacted'`

  yield* sql`
    CREATE FUNCTION count_thread_events() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      IF TG_OP <> 'INSERT' AND OLD.rel_type = 'm.thread' AND OLD.status <= 1 THEN
        UPDATE threads SET events = threads.events - 1 WHERE root = OLD.thread_id AND room_nid = OLD.room_nid;
        DELETE FROM threads WHERE root = OLD.thread_id AND room_nid = OLD.room_nid AND threads.events <= 0;
        UPDATE threads SET (xid, nid) = (
          SELECT newest.xid, newest.nid FROM events newest
          WHERE newest.room_nid = OLD.room_nid AND newest.thread_id = OLD.thread_id AND newest.rel_type = 'm.thread'
            AND newest.status <= 1
          ORDER BY newest.xid DESC, newest.nid DESC LIMIT 1)
        WHERE root = OLD.thread_id AND room_nid = OLD.room_nid AND threads.xid = OLD.xid AND threads.nid = OLD.nid;
      END IF;
      IF TG_OP <> 'DELETE' AND NEW.rel_type = 'm.thread' AND NEW.status <= 1 THEN
        INSERT INTO threads AS known (root, room_nid, events, xid, nid)
        VALUES (NEW.thread_id, NEW.room_nid, 1, NEW.xid, NEW.nid)
        ON CONFLICT (root, room_nid) DO UPDATE SET events = known.events + 1,
          xid = greatest(known.xid, excluded.xid),
          nid = CASE WHEN (excluded.xid, excluded.nid) > (known.xid, known.nid) THEN excluded.nid ELSE known.nid END;
      END IF;
      RETURN NULL;
    END $$`)}`
  yield* sql`
    CREATE TRIGGER count_thread_events_added AFTER INSERT ON events
    FOR EACH ROW WHEN (NEW.rel_type = 'm.thread') EXECUTE FUNCTION count_thread_events()`
  yield* sql`
    CREATE TRIGGER count_thread_events_changed AFTER UPDATE OF rel_type, thread_id, status, xid, nid ON events
    FOR EACH ROW WHEN (OLD.rel_type = 'm.thread' OR NEW.rel_type = 'm.thread') EXECUTE FUNCTION count_thread_events()`
  yield* sql`
    CREATE TRIGGER count_thread_events_removed AFTER DELETE ON events
    FOR EACH ROW WHEN (OLD.rel_type = 'm.thread') EXECUTE FUNCTION count_thread_events()`

  // The triggers lock the table: a node of the former version writes no event until they are in force.
  yield* sql`
    INSERT INTO threads (root, room_nid, events, xid, nid)
    SELECT DISTINCT ON (thread_id, room_nid) thread_id, room_nid, count(*) OVER (PARTITION BY thread_id, room_nid), xid, nid
    FROM events WHERE rel_type = 'm.thread' AND thread_id IS NOT NULL AND status <= 1
    ORDER BY thread_id, room_nid, xid DESC, nid DESC`

  yield* sql`CREATE INDEX events_thread_sender ON events (thread_id, sender) WHERE thread_id IS NOT NULL`
  yield* sql`CREATE INDEX events_related ON events (relates_to, rel_type, xid, nid) WHERE relates_to IS NOT NULL`
  yield* sql`DROP INDEX events_relation`
})
