/**
 * The depth of the event by which this server last joined a room. Events of less depth are history.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE rooms ADD COLUMN joined_depth bigint NOT NULL DEFAULT 0`
  yield* sql`COMMENT ON COLUMN rooms.joined_depth IS 'of the join by which this server came in; 0 where it made the room'`
})
