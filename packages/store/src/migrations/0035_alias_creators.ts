/** Aliases are counted by who made them. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`CREATE INDEX room_aliases_creator ON room_aliases (creator)`
})
