/**
 * Whether the database can be written to: a full disk, a read-only standby or a lost permission still answer `SELECT 1`.
 * The probe allocates new space, since a small write may find room on a full disk, and rolls back.
 */
import { Data, Effect } from "effect"
import { SqlClient, type SqlError } from "effect/sql"

/** How much is written, in chunks of 32 bytes. */
const chunks = 8_192

class RollBack extends Data.TaggedError("RollBack") {}

/** Fails if the database cannot be written to. Costs a quarter of a MiB of writes. */
export const probeWrites: Effect.Effect<void, SqlError.SqlError, SqlClient.SqlClient> = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql
    .withTransaction(
      Effect.gen(function* () {
        yield* sql`CREATE TABLE write_probe (data text)`
        // CREATE TABLE has it from PostgreSQL 16 on.
        yield* sql`ALTER TABLE write_probe ALTER data SET STORAGE EXTERNAL`
        yield* sql`
          INSERT INTO write_probe
          SELECT string_agg(md5(random()::text), '') FROM generate_series(1, ${chunks}::integer)`
        return yield* new RollBack()
      })
    )
    .pipe(Effect.catchTag("RollBack", () => Effect.void))
})
