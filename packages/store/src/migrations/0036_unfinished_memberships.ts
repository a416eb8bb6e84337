/**
 * Memberships of our users in rooms of other servers that are on their way: what a server was handed, and this one has not
 * recorded yet, or has recorded, and no server has taken yet.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE unfinished_memberships (
      room_id text NOT NULL,
      user_id text NOT NULL,
      membership text NOT NULL,
      servers text[] NOT NULL,
      content text NOT NULL,
      since bigint NOT NULL,
      PRIMARY KEY (room_id, user_id)
    )`
  yield* sql`COMMENT ON COLUMN unfinished_memberships.membership IS 'join or leave'`
  yield* sql`COMMENT ON COLUMN unfinished_memberships.content IS 'JSON text'`
})
