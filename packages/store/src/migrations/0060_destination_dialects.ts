/** Until when a destination is taken for one that speaks the draft's dialect alone, in milliseconds since 1970. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE destinations ADD COLUMN draft_until bigint NOT NULL DEFAULT 0`
})
