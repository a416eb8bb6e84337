/**
 * End-to-end encryption: keys of devices and users, and messages to devices. The rows of a device are
 * deleted with its login. Keys are JSON text. Signatures have a table of their own, because other devices and users add some.
 *
 * `device_list_changes` has one row for each user, with the position of the last change of their keys.
 *
 * Source: "End-to-End Encryption" and "Send-to-Device messaging" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const device = sql.literal(
    "FOREIGN KEY (user_id, device_id) REFERENCES access_tokens (user_id, device_id) ON DELETE CASCADE"
  )

  yield* sql`
    CREATE TABLE device_keys (
      user_id text NOT NULL,
      device_id text NOT NULL,
      keys text NOT NULL,
      signatures text NOT NULL,
      PRIMARY KEY (user_id, device_id),
      ${device}
    )`
  yield* sql`COMMENT ON COLUMN device_keys.keys IS 'canonical JSON without signatures and unsigned'`

  yield* sql`
    CREATE TABLE one_time_keys (
      number bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
      user_id text NOT NULL,
      device_id text NOT NULL,
      algorithm text NOT NULL,
      key_id text NOT NULL,
      key text NOT NULL,
      claimed_at bigint,
      PRIMARY KEY (user_id, device_id, algorithm, key_id),
      ${device}
    )`
  yield* sql`COMMENT ON COLUMN one_time_keys.claimed_at IS
    'a claimed key is kept for a while, so that a repeated upload does not offer it again'`
  yield* sql`
    CREATE INDEX one_time_keys_unclaimed ON one_time_keys (user_id, device_id, algorithm, number)
    WHERE claimed_at IS NULL`

  yield* sql`
    CREATE TABLE fallback_keys (
      user_id text NOT NULL,
      device_id text NOT NULL,
      algorithm text NOT NULL,
      key_id text NOT NULL,
      key text NOT NULL,
      used boolean NOT NULL DEFAULT false,
      PRIMARY KEY (user_id, device_id, algorithm),
      ${device}
    )`

  yield* sql`
    CREATE TABLE cross_signing_keys (
      user_id text NOT NULL,
      usage text NOT NULL,
      keys text NOT NULL,
      signatures text NOT NULL,
      PRIMARY KEY (user_id, usage)
    )`
  yield* sql`COMMENT ON COLUMN cross_signing_keys.usage IS 'master, self_signing or user_signing'`

  yield* sql`
    CREATE TABLE user_signatures (
      signer text NOT NULL,
      user_id text NOT NULL,
      signatures text NOT NULL,
      PRIMARY KEY (signer, user_id)
    )`
  yield* sql`COMMENT ON TABLE user_signatures IS 'by users on the master keys of others; nobody but the signer sees them'`
  yield* sql`SELECT add_to_log('user_signatures')`

  yield* sql`
    CREATE TABLE to_device_messages (
      user_id text NOT NULL,
      device_id text NOT NULL,
      sender text NOT NULL,
      type text NOT NULL,
      content text NOT NULL,
      ${device}
    )`
  yield* sql`SELECT add_to_log('to_device_messages')`
  yield* sql`CREATE INDEX to_device_messages_device ON to_device_messages (user_id, device_id, xid, nid)`

  yield* sql`
    CREATE TABLE device_list_changes (
      user_id text PRIMARY KEY,
      version bigint NOT NULL DEFAULT 1
    )`
  yield* sql`COMMENT ON COLUMN device_list_changes.version IS 'counts the changes, for other servers'`
  yield* sql`SELECT add_to_log('device_list_changes')`

  yield* sql`
    CREATE FUNCTION note_device_list(changed_user text) RETURNS void LANGUAGE sql AS ${sql.literal(`$$
      INSERT INTO device_list_changes AS change (user_id) VALUES (changed_user)
      ON CONFLICT (user_id) DO UPDATE
      SET version = change.version + 1, xid = excluded.xid, nid = excluded.nid $$`)}`
  yield* sql`
    CREATE FUNCTION note_device_list_of_row() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      PERFORM note_device_list(coalesce(NEW.user_id, OLD.user_id));
      RETURN NULL;
    END $$`)}`
  yield* sql`
    CREATE TRIGGER note_device_list AFTER INSERT OR UPDATE OR DELETE ON device_keys
    FOR EACH ROW EXECUTE FUNCTION note_device_list_of_row()`
  yield* sql`
    CREATE TRIGGER note_device_list AFTER INSERT OR UPDATE OR DELETE ON cross_signing_keys
    FOR EACH ROW EXECUTE FUNCTION note_device_list_of_row()`
  yield* sql`
    CREATE FUNCTION note_device_name() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      IF EXISTS (SELECT FROM device_keys WHERE user_id = NEW.user_id AND device_id = NEW.device_id) THEN
        PERFORM note_device_list(NEW.user_id);
      END IF;
      RETURN NULL;
    END $$`)}`
  yield* sql`
    CREATE TRIGGER note_device_name AFTER UPDATE OF device_name ON access_tokens
    FOR EACH ROW WHEN (OLD.device_name IS DISTINCT FROM NEW.device_name) EXECUTE FUNCTION note_device_name()`

  yield* sql`
    CREATE FUNCTION forget_keys() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      DELETE FROM cross_signing_keys WHERE user_id = NEW.user_id;
      DELETE FROM user_signatures WHERE signer = NEW.user_id OR user_id = NEW.user_id;
      RETURN NULL;
    END $$`)}`
  yield* sql`CREATE INDEX user_signatures_user ON user_signatures (user_id)`
  yield* sql`
    CREATE TRIGGER forget_keys AFTER UPDATE OF deactivated_at ON users
    FOR EACH ROW WHEN (OLD.deactivated_at IS NULL AND NEW.deactivated_at IS NOT NULL) EXECUTE FUNCTION forget_keys()`
})
