/**
 * The event log carries more than events. A table joins it with `SELECT add_to_log('name')`: its rows get a position
 * (`xid`, `nid`), and each transaction that writes rows wakes the nodes that follow the log.
 *
 * `xid` is the number of the transaction plus an offset. PostgreSQL counts transactions anew in a database cluster into
 * which a dump was restored; the offset, raised at the start, keeps new positions above the stored ones.
 *
 * Ended logins are the first rows of their own kind.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE log_offset (
      single boolean PRIMARY KEY DEFAULT true CHECK (single),
      value bigint NOT NULL
    )`
  yield* sql`INSERT INTO log_offset (value) VALUES (0)`
  yield* sql`CREATE SEQUENCE log_nids`

  yield* sql`
    CREATE FUNCTION log_xid() RETURNS xid8 STABLE
    BEGIN ATOMIC
      SELECT (pg_current_xact_id()::text::bigint + value)::text::xid8 FROM log_offset;
    END`
  yield* sql`COMMENT ON FUNCTION log_xid IS 'the first part of the positions of this transaction in the log'`

  yield* sql`
    CREATE FUNCTION wake_log() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      IF EXISTS (SELECT FROM written) THEN PERFORM pg_notify('greenroom_log', log_xid()::text); END IF;
      RETURN NULL;
    END $$`)}`
  yield* sql`COMMENT ON FUNCTION wake_log IS 'wakes the followers of the log, once a transaction'`

  yield* sql`
    CREATE FUNCTION add_to_log(log_table text) RETURNS void LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      EXECUTE format('ALTER TABLE %I ADD COLUMN xid xid8 NOT NULL DEFAULT log_xid(),
        ADD COLUMN nid bigint NOT NULL DEFAULT nextval(''log_nids'')', log_table);
      EXECUTE format('CREATE INDEX %I ON %I (xid, nid)', log_table || '_log', log_table);
      EXECUTE format('CREATE TRIGGER wake_log_of_inserts AFTER INSERT ON %I REFERENCING NEW TABLE AS written
        FOR EACH STATEMENT EXECUTE FUNCTION wake_log()', log_table);
      EXECUTE format('CREATE TRIGGER wake_log_of_updates AFTER UPDATE ON %I REFERENCING NEW TABLE AS written
        FOR EACH STATEMENT EXECUTE FUNCTION wake_log()', log_table);
    END $$`)}`
  yield* sql`COMMENT ON FUNCTION add_to_log IS
    'gives each row of the table a position in the log; an update that sets xid and nid to their defaults gives a new one'`

  yield* sql`ALTER TABLE events ALTER COLUMN xid SET DEFAULT log_xid()`
  yield* sql`ALTER TABLE membership_changes ALTER COLUMN xid SET DEFAULT log_xid()`

  // These tables had an `xid` before; `add_to_log` adds the `nid`.
  yield* sql`ALTER TABLE account_data DROP COLUMN xid`
  yield* sql`SELECT add_to_log('account_data')`
  yield* sql`CREATE INDEX account_data_user ON account_data (user_id, xid, nid)`
  yield* sql`ALTER TABLE receipts DROP COLUMN xid`
  yield* sql`SELECT add_to_log('receipts')`
  yield* sql`CREATE INDEX receipts_room ON receipts (room_nid, xid, nid)`

  // Deleting a login ends its sessions, also when an operator deletes the row. A new login of the same device keeps the row.
  yield* sql`ALTER TABLE access_tokens ADD COLUMN since xid8 NOT NULL DEFAULT log_xid()`
  yield* sql`COMMENT ON COLUMN access_tokens.since IS
    'the position of the login in the log: sessions of earlier logins on the device have ended'`
  yield* sql`
    CREATE TABLE session_revocations (
      token_id bigint NOT NULL,
      user_id text NOT NULL,
      device_id text NOT NULL,
      ended_at bigint NOT NULL DEFAULT extract(epoch FROM now()) * 1000
    )`
  yield* sql`SELECT add_to_log('session_revocations')`
  yield* sql`CREATE INDEX session_revocations_age ON session_revocations USING brin (ended_at)`
  yield* sql`
    CREATE FUNCTION revoke_sessions() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      INSERT INTO session_revocations (token_id, user_id, device_id)
      SELECT token_id, user_id, device_id FROM ended;
      RETURN NULL;
    END $$`)}`
  yield* sql`
    CREATE TRIGGER revoke_sessions AFTER DELETE ON access_tokens REFERENCING OLD TABLE AS ended
    FOR EACH STATEMENT EXECUTE FUNCTION revoke_sessions()`
  yield* sql`
    CREATE FUNCTION revoke_former_session() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      INSERT INTO session_revocations (token_id, user_id, device_id) VALUES (OLD.token_id, OLD.user_id, OLD.device_id);
      RETURN NULL;
    END $$`)}`
  yield* sql`
    CREATE TRIGGER revoke_former_session AFTER UPDATE OF since ON access_tokens
    FOR EACH ROW WHEN (OLD.since <> NEW.since) EXECUTE FUNCTION revoke_former_session()`
})
