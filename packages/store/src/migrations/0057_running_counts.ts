/**
 * Each event of the timeline carries how many notifying events the room had with it, so that the count at a position is
 * read by the index of the timeline: an index of its own for the numbered events is not written any more. Numbers of events
 * that are not numbered are negative: -1 - n.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`COMMENT ON COLUMN events.notify_count IS
    'how many events of the main timeline had notified members of the room, with this one; -1 - n where this one did not'`
  yield* sql`DROP INDEX events_counted, events_counted_own, events_retracted, events_uncounted`
  yield* sql`CREATE INDEX events_counted_own ON events (room_nid, sender, xid, nid) WHERE notify_count > 0`
  yield* sql`CREATE INDEX events_retracted ON events (room_nid, xid, nid) WHERE notify_count > 0 AND NOT notifies`
  yield* sql`
    CREATE INDEX events_uncounted ON events (room_nid, xid, nid)
    WHERE notifies AND coalesce(notify_count, -1) < 0 AND status = 0`
})
