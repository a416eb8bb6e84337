/**
 * Server notices: the room of each user in which they come, and notices that the command line has asked for.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE notice_rooms (user_id text PRIMARY KEY, room_id text NOT NULL)`
  yield* sql`
    CREATE TABLE waiting_notices (
      notice_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      user_id text NOT NULL,
      content text NOT NULL
    )`
  yield* sql`COMMENT ON COLUMN waiting_notices.content IS 'of an m.room.message, as JSON text'`
})
