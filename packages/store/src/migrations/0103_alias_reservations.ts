/** Aliases remember which process made them: one that it reserved for a room is free once the process has ended. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`ALTER TABLE room_aliases ADD COLUMN reserved_by text`
})
