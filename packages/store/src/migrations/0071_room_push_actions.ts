/**
 * Events that notify most of those members of a room alike who have push rules of their own have one row for all of them, which
 * names the others. Such a member is one who is joined to the room and has rows (`push_rules.since_xid`) when the event comes.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE room_push_actions (
      room_nid bigint NOT NULL,
      xid xid8 NOT NULL,
      nid bigint NOT NULL,
      thread_id text,
      highlight boolean NOT NULL,
      actions text NOT NULL,
      others text[] NOT NULL,
      PRIMARY KEY (room_nid, xid, nid)
    )`
  yield* sql`COMMENT ON TABLE room_push_actions IS
    'events that notify all joined members who have push rules of their own, but for those in others'`
  yield* sql`COMMENT ON COLUMN room_push_actions.others IS
    'the sender, members whom the event does not notify, and those who have a row in push_actions'`
  yield* sql`CREATE INDEX room_push_actions_event ON room_push_actions (nid)`
})
