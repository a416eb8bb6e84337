/**
 * Users of this server who were not offline when the server ended. Others still see them so.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE former_presence (user_id text PRIMARY KEY)`
  yield* sql`COMMENT ON TABLE former_presence IS
    'users who were not offline before the last start, until others were sent their present presence'`
})
