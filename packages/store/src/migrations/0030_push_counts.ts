/**
 * The effects of events by push rules, so that unread counts cost a few index look-ups, whatever is unread.
 *
 * By the default rules all members of a room but the sender are notified alike. Events of the main timeline that do so are
 * numbered (`notify_count`): what is unread is the difference of two numbers, less the user's own events and redacted ones.
 * Events in threads, and those of before this migration, are counted one by one.
 *
 * Beside that there are rows for users whom an event mentions, and for users with rules of their own (`push_actions`), whose
 * notifications are rows from `push_rules.since_xid` on.
 *
 * Source: "Push notifications" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE rooms ADD COLUMN notify_count bigint NOT NULL DEFAULT 0`
  yield* sql`ALTER TABLE events ADD COLUMN notify_count bigint, ADD COLUMN highlights boolean NOT NULL DEFAULT false`
  yield* sql`COMMENT ON COLUMN events.notify_count IS
    'of an event of the main timeline that notified members when it came: how many the room had with it'`
  yield* sql`COMMENT ON COLUMN events.highlights IS 'highlighted for all members'`
  yield* sql`
    CREATE INDEX events_counted ON events (room_nid, xid, nid) INCLUDE (notify_count) WHERE notify_count IS NOT NULL`
  yield* sql`CREATE INDEX events_counted_own ON events (room_nid, sender, xid, nid) WHERE notify_count IS NOT NULL`
  yield* sql`CREATE INDEX events_retracted ON events (room_nid, xid, nid) WHERE notify_count IS NOT NULL AND NOT notifies`
  yield* sql`
    CREATE INDEX events_uncounted ON events (room_nid, xid, nid) WHERE notifies AND notify_count IS NULL AND status = 0`
  yield* sql`CREATE INDEX events_highlighting ON events (room_nid, xid, nid) WHERE highlights AND status = 0`
  yield* sql`DROP INDEX events_notifying`

  yield* sql`ALTER TABLE mentions ADD COLUMN alone boolean NOT NULL DEFAULT false`
  yield* sql`COMMENT ON COLUMN mentions.alone IS 'the event notifies nobody but those whom it mentions'`

  yield* sql`ALTER TABLE push_rules ADD COLUMN since_xid xid8 NOT NULL DEFAULT log_xid()`
  yield* sql`
    CREATE TABLE push_actions (
      user_id text NOT NULL,
      room_nid bigint NOT NULL,
      xid xid8 NOT NULL,
      nid bigint NOT NULL,
      thread_id text,
      highlight boolean NOT NULL,
      actions text NOT NULL,
      PRIMARY KEY (user_id, room_nid, xid, nid)
    )`
  yield* sql`COMMENT ON TABLE push_actions IS 'events that notify users who have push rules of their own'`
  yield* sql`CREATE INDEX push_actions_event ON push_actions (nid)`
  yield* sql`CREATE INDEX mentions_event ON mentions (nid)`
})
