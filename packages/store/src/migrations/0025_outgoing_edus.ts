/**
 * EDUs that must not be lost: messages to devices of users of other servers, and key changes of users of this server. A trigger writes
 * the latter in the same transaction as the change, for each server that shares a room with the user.
 *
 * Source: "Send-to-device messaging" and "Device Management" of the server-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE TABLE outgoing_edus (
      number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      destination text NOT NULL,
      edu_type text NOT NULL,
      content text NOT NULL,
      transaction_id text
    )`
  yield* sql`COMMENT ON COLUMN outgoing_edus.transaction_id IS
    'of the transaction in flight that has it: every attempt sends the same one'`
  yield* sql`CREATE INDEX outgoing_edus_queue ON outgoing_edus (destination, number)`

  yield* sql`
    CREATE FUNCTION queue_key_update(changed_user text, edu_types text[], content json) RETURNS void
    LANGUAGE sql AS ${sql.literal(`$$
      INSERT INTO outgoing_edus (destination, edu_type, content)
      SELECT present.server, edu_type, content::text FROM (
        SELECT DISTINCT other.server FROM memberships own JOIN memberships other USING (room_nid)
        WHERE own.user_id = changed_user AND own.membership = 'join' AND other.membership = 'join'
          AND other.server <> own.server) AS present
      CROSS JOIN unnest(edu_types) AS edu_type $$`)}`
  yield* sql`
    CREATE FUNCTION signed_keys(keys text, signatures text) RETURNS json LANGUAGE sql IMMUTABLE AS ${sql.literal(`$$
      SELECT (left(keys, -1) || CASE WHEN keys = '{}' THEN '' ELSE ',' END || '"signatures":' || signatures || '}')::json $$`)}`

  // Replaces the function that only recorded the change.
  yield* sql`
    CREATE OR REPLACE FUNCTION note_device_list_of_row() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    DECLARE
      changed_user text := coalesce(NEW.user_id, OLD.user_id);
      number bigint;
    BEGIN
      PERFORM note_device_list(changed_user);
      IF TG_TABLE_NAME = 'cross_signing_keys' THEN
        PERFORM queue_key_update(changed_user, ARRAY['m.signing_key_update', 'org.matrix.signing_key_update'],
          ('{"user_id":' || to_json(changed_user)::text
            || coalesce((SELECT ',"master_key":' || signed_keys(keys, signatures)::text FROM cross_signing_keys
              WHERE user_id = changed_user AND usage = 'master'), '')
            || coalesce((SELECT ',"self_signing_key":' || signed_keys(keys, signatures)::text FROM cross_signing_keys
              WHERE user_id = changed_user AND usage = 'self_signing'), '') || '}')::json);
        RETURN NULL;
      END IF;
      SELECT version INTO number FROM device_list_changes WHERE user_id = changed_user;
      PERFORM queue_key_update(changed_user, ARRAY['m.device_list_update'],
        CASE WHEN TG_OP = 'DELETE' THEN
          json_build_object('user_id', changed_user, 'device_id', OLD.device_id, 'stream_id', number,
            'prev_id', json_build_array(number - 1), 'deleted', true)
        ELSE
          json_build_object('user_id', changed_user, 'device_id', NEW.device_id, 'stream_id', number,
            'prev_id', json_build_array(number - 1), 'keys', signed_keys(NEW.keys, NEW.signatures))
        END);
      RETURN NULL;
    END $$`)}`
})
