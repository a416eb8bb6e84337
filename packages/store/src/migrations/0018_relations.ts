/**
 * Relations of events (`rel_type` of `relates_to`), their threads, and whether they notify members by the default push rules, so that
 * relations, threads and unread counts are read by index. Mentions of users of this server have rows of their own.
 *
 * Source: "Forming relationships between events", "Threading" and "Push notifications" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    ALTER TABLE events
      ADD COLUMN rel_type text,
      ADD COLUMN thread_id text,
      ADD COLUMN notifies boolean NOT NULL DEFAULT false`
  yield* sql`COMMENT ON COLUMN events.rel_type IS 'NULL also once the event was redacted'`
  yield* sql`CREATE INDEX events_thread ON events (room_nid, thread_id, xid, nid) WHERE thread_id IS NOT NULL`
  yield* sql`CREATE INDEX events_notifying ON events (room_nid, xid, nid) WHERE notifies AND status = 0`
  yield* sql`
    CREATE TABLE mentions (
      user_id text NOT NULL,
      room_nid bigint NOT NULL,
      xid xid8 NOT NULL,
      nid bigint NOT NULL,
      thread_id text,
      PRIMARY KEY (user_id, room_nid, xid, nid)
    )`
})
