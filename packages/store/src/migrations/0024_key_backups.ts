/**
 * Backups of room keys, encrypted by clients: versions of each user, and the keys in them. The etag counts the changes.
 *
 * Source: "Server-side key backups" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE key_backups (
      user_id text NOT NULL REFERENCES users,
      version bigint NOT NULL,
      algorithm text NOT NULL,
      auth_data text NOT NULL,
      etag bigint NOT NULL DEFAULT 0,
      keys integer NOT NULL DEFAULT 0,
      deleted boolean NOT NULL DEFAULT false,
      PRIMARY KEY (user_id, version)
    )`
  yield* sql`COMMENT ON COLUMN key_backups.keys IS 'how many keys there are'`
  yield* sql`COMMENT ON COLUMN key_backups.deleted IS 'a deleted version keeps its number'`
  yield* sql`
    CREATE TABLE backed_up_keys (
      user_id text NOT NULL,
      version bigint NOT NULL,
      room_id text NOT NULL,
      session_id text NOT NULL,
      first_message_index bigint NOT NULL,
      forwarded_count bigint NOT NULL,
      is_verified boolean NOT NULL,
      session_data text NOT NULL,
      PRIMARY KEY (user_id, version, room_id, session_id),
      FOREIGN KEY (user_id, version) REFERENCES key_backups ON DELETE CASCADE
    )`
})
