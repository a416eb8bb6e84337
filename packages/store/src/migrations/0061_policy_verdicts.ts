/** The verdicts of this server as a policy server. `refusal` is null for accepted events. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE policy_verdicts (
      event_id text PRIMARY KEY,
      refusal text,
      judged_at bigint NOT NULL
    )`
  yield* sql`CREATE INDEX policy_verdicts_by_time ON policy_verdicts (judged_at)`
})
