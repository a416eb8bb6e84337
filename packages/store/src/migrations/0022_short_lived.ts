/**
 * Short-lived values (presence, typing): the last value of each key, in an UNLOGGED table, which PostgreSQL empties after
 * a crash. A marker row in the same table is then missing, which shows the crash.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE UNLOGGED TABLE short_lived (
      key text PRIMARY KEY,
      value text NOT NULL
    )`
  yield* sql`COMMENT ON COLUMN short_lived.value IS 'JSON text; null for a key that has no value any more'`
  yield* sql`SELECT add_to_log('short_lived')`
  // It also makes the transaction wait for the disk: its rows may be lost, but its `xid` is never assigned again.
  for (const change of ["INSERT", "UPDATE"]) {
    yield* sql`
      CREATE TRIGGER ${sql.literal(`keep_log_high_of_${change.toLowerCase()}s`)} AFTER ${sql.literal(change)} ON short_lived
      REFERENCING NEW TABLE AS written FOR EACH STATEMENT EXECUTE FUNCTION keep_log_high()`
  }
  yield* sql`CREATE UNLOGGED TABLE short_lived_marker (single boolean PRIMARY KEY DEFAULT true)`
})
