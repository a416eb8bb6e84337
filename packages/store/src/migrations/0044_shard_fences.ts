/**
 * Fences of the shards of actors: a node that takes a shard raises its number, and what a former holder still writes under an
 * older number is refused. Requests to other servers are kept as they were sent, so that a repeat has the same bytes.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`CREATE TABLE shard_fences (shard integer PRIMARY KEY, fence bigint NOT NULL)`

  yield* sql`ALTER TABLE outgoing_transactions ADD COLUMN uri text, ADD COLUMN body bytea`
  yield* sql`COMMENT ON COLUMN outgoing_transactions.body IS 'as it is sent, until the destination has it'`
  yield* sql`ALTER TABLE outgoing_edus ADD COLUMN ts bigint`
  yield* sql`COMMENT ON COLUMN outgoing_edus.ts IS 'of the transaction in flight that has it, in milliseconds since 1970'`
})
