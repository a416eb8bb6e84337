/**
 * The auth events of state events as rows, so that an auth chain is one recursive query; and
 * columns by which two states are compared by their differences.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE event_auth (
      event_nid bigint NOT NULL,
      auth_nid bigint NOT NULL,
      PRIMARY KEY (event_nid, auth_nid)
    )`
  yield* sql`COMMENT ON TABLE event_auth IS 'the auth events of each state event; other events have no rows'`
  yield* sql`CREATE INDEX event_auth_rests_on ON event_auth (auth_nid)`

  yield* sql`ALTER TABLE state_chains ADD COLUMN equals_chain bigint, ADD COLUMN equals_seq integer`
  yield* sql`COMMENT ON COLUMN state_chains.equals_chain IS
    'with equals_seq: the state that the snapshot at the beginning of the chain is a copy of, where there is one'`
  yield* sql`CREATE INDEX state_deltas_changes ON state_deltas (chain, seq) WHERE seq > 0`

  // Back-fills of migrations, which are done in batches, each in a transaction of its own (`internal/backFills.ts`).
  yield* sql`
    CREATE TABLE back_fills (
      name text PRIMARY KEY,
      after_nid bigint NOT NULL
    )`
  yield* sql`COMMENT ON COLUMN back_fills.after_nid IS 'up to this event it is done'`
  yield* sql`
    INSERT INTO back_fills (name, after_nid)
    SELECT 'event_auth', min(nid) - 1 FROM events HAVING min(nid) IS NOT NULL`
})
