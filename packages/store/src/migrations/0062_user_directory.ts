/**
 * The user directory: names and avatars of users by which they are found, and whether a room shows its members to everybody.
 * `UserDirectoryStore` fills it from `user_directory_queue`, first with the members of all rooms that there are.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE rooms ADD COLUMN shows_members boolean`
  yield* sql`COMMENT ON COLUMN rooms.shows_members IS
    'join rule public or history world_readable, and users of this server are joined; NULL: not known yet'`
  yield* sql`
    CREATE TABLE user_directory (
      user_id text NOT NULL,
      room_nid bigint NOT NULL,
      shown boolean NOT NULL,
      displayname text,
      avatar_url text,
      words tsvector NOT NULL,
      PRIMARY KEY (user_id, room_nid)
    )`
  yield* sql`COMMENT ON COLUMN user_directory.room_nid IS
    '0: what everybody who finds the user sees; else the name that a user of another server has in a room that does not show its members'`
  yield* sql`COMMENT ON COLUMN user_directory.shown IS 'the user is joined to a room that shows its members'`
  yield* sql`CREATE INDEX user_directory_words ON user_directory USING gin (words) WHERE shown`
  yield* sql`CREATE INDEX user_directory_room ON user_directory (room_nid) WHERE room_nid <> 0`
  yield* sql`
    CREATE TABLE user_directory_queue (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      room_nid bigint NOT NULL,
      user_id text NOT NULL
    )`
  yield* sql`COMMENT ON TABLE user_directory_queue IS 'users whose entries may have changed'`
  yield* sql`COMMENT ON COLUMN user_directory_queue.room_nid IS '0: the profile has changed'`
  yield* sql`
    CREATE TABLE user_directory_room_queue (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      room_nid bigint NOT NULL,
      after_user text NOT NULL DEFAULT ''
    )`
  yield* sql`COMMENT ON TABLE user_directory_room_queue IS 'rooms of which all members may have changed; up to after_user they are done'`
  yield* sql`INSERT INTO user_directory_room_queue (room_nid) SELECT room_nid FROM rooms WHERE current_chain IS NOT NULL`
})
