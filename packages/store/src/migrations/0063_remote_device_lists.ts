/**
 * The devices of users of other servers who share a room with a user of ours.
 *
 * Source: "Device Management" of the server-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE remote_device_lists (
      user_id text PRIMARY KEY,
      server text NOT NULL GENERATED ALWAYS AS (substr(user_id, strpos(user_id, ':') + 1)) STORED,
      devices text,
      master_key text,
      self_signing_key text,
      streams bigint[] NOT NULL DEFAULT '{}',
      since xid8 NOT NULL DEFAULT '0',
      changes bigint NOT NULL DEFAULT 0,
      is_stale boolean NOT NULL DEFAULT true,
      failures integer NOT NULL DEFAULT 0,
      retry_at bigint NOT NULL DEFAULT 0
    )`
  yield* sql`COMMENT ON COLUMN remote_device_lists.devices IS
    'JSON: the keys by device ID, as clients get them; NULL until the server has answered'`
  yield* sql`COMMENT ON COLUMN remote_device_lists.streams IS 'the stream_ids of the updates that were heard of, newest last'`
  yield* sql`COMMENT ON COLUMN remote_device_lists.since IS
    'the position in the log at which the server was asked: believed while a room is shared from before that'`
  yield* sql`COMMENT ON COLUMN remote_device_lists.changes IS 'counts what was heard: an answer to an older question stays stale'`
  yield* sql`CREATE INDEX remote_device_lists_stale ON remote_device_lists (server, retry_at) WHERE is_stale`
})
