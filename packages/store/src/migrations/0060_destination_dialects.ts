/** The time until which a destination counts as one that supports the draft's protocol only, in milliseconds since 1970. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE destinations ADD COLUMN draft_until bigint NOT NULL DEFAULT 0`
})
