/** Rates of single accounts, which administrators give to bots. They are part of the standing of the account, which every node holds. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    ALTER TABLE account_standings
      ADD COLUMN messages_per_second integer,
      ADD COLUMN burst_count integer,
      ADD CHECK ((messages_per_second IS NULL) = (burst_count IS NULL))`
  yield* sql`COMMENT ON COLUMN account_standings.messages_per_second IS
    'in place of the rate of all users; 0 for no limit, null for that rate'`
})
