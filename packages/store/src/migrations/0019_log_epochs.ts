/**
 * Stream tokens have the number of their epoch, so that a token that is newer than a restored backup is recognised. Each start of a
 * node begins an epoch.
 *
 * `log_high` has the highest position of rows that were deleted, or are in an UNLOGGED table: the end of the log is the highest position
 * of it and of the rows themselves.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE log_high (
      slot smallint PRIMARY KEY,
      xid xid8 NOT NULL,
      nid bigint NOT NULL
    )`
  yield* sql`COMMENT ON COLUMN log_high.slot IS 'one of some, so that transactions do not wait for each other'`
  yield* sql`
    CREATE FUNCTION keep_log_high() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      IF EXISTS (SELECT FROM written) THEN
        INSERT INTO log_high (slot, xid, nid) VALUES (pg_backend_pid() % 32, log_xid(), 9007199254740991)
        ON CONFLICT (slot) DO UPDATE SET xid = excluded.xid WHERE log_high.xid < excluded.xid;
      END IF;
      RETURN NULL;
    END $$`)}`

  yield* sql`
    CREATE OR REPLACE FUNCTION add_to_log(log_table text) RETURNS void LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      EXECUTE format('ALTER TABLE %I ADD COLUMN xid xid8 NOT NULL DEFAULT log_xid(),
        ADD COLUMN nid bigint NOT NULL DEFAULT nextval(''log_nids'')', log_table);
      EXECUTE format('CREATE INDEX %I ON %I (xid, nid)', log_table || '_log', log_table);
      EXECUTE format('CREATE TRIGGER wake_log_of_inserts AFTER INSERT ON %I REFERENCING NEW TABLE AS written
        FOR EACH STATEMENT EXECUTE FUNCTION wake_log()', log_table);
      EXECUTE format('CREATE TRIGGER wake_log_of_updates AFTER UPDATE ON %I REFERENCING NEW TABLE AS written
        FOR EACH STATEMENT EXECUTE FUNCTION wake_log()', log_table);
      EXECUTE format('CREATE TRIGGER keep_log_high AFTER DELETE ON %I REFERENCING OLD TABLE AS written
        FOR EACH STATEMENT EXECUTE FUNCTION keep_log_high()', log_table);
    END $$`)}`
  for (const table of ["session_revocations", "account_data", "receipts"]) {
    yield* sql`
      CREATE TRIGGER keep_log_high AFTER DELETE ON ${sql.literal(table)} REFERENCING OLD TABLE AS written
      FOR EACH STATEMENT EXECUTE FUNCTION keep_log_high()`
  }

  yield* sql`
    CREATE TABLE log_epochs (
      epoch text PRIMARY KEY,
      follows_xid xid8 NOT NULL,
      follows_nid bigint NOT NULL,
      fresh boolean NOT NULL,
      started_at bigint NOT NULL DEFAULT extract(epoch FROM now()) * 1000
    )`
  yield* sql`SELECT add_to_log('log_epochs')`
  yield* sql`COMMENT ON COLUMN log_epochs.follows_xid IS
    'with follows_nid: the last position that tokens of the epoch before can have'`
  yield* sql`COMMENT ON COLUMN log_epochs.fresh IS
    'whether what is short-lived (presence, typing) began anew: readers from before get all that is the case now'`
})
