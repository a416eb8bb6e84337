/**
 * Pushers: the destinations of users' notifications, and the position up to which each was notified. A pusher that was removed
 * keeps its row without a kind, so that every node hears of it by the log.
 *
 * Source: "Push notifications" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE pushers (
      pusher_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      user_id text NOT NULL,
      device_id text NOT NULL,
      app_id text NOT NULL,
      pushkey text NOT NULL,
      kind text,
      description text NOT NULL,
      set_at bigint NOT NULL,
      UNIQUE (app_id, pushkey, user_id)
    )`
  yield* sql`COMMENT ON COLUMN pushers.description IS 'the rest of what the client said, as JSON text'`
  yield* sql`CREATE INDEX pushers_user ON pushers (user_id)`
  yield* sql`SELECT add_to_log('pushers')`
  yield* sql`
    CREATE TABLE pusher_progress (
      pusher_id bigint PRIMARY KEY REFERENCES pushers ON DELETE CASCADE,
      seen_xid xid8 NOT NULL,
      seen_nid bigint NOT NULL,
      failing_since bigint
    )`
  yield* sql`COMMENT ON TABLE pusher_progress IS 'up to which position of the log the pusher has been told'`
})
