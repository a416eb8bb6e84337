/**
 * Other servers receive the display names of devices: in `m.device_list_update` with the keys, and when a device gets another
 * name.
 *
 * Source: "Device Management" of the server-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE FUNCTION queue_device_update(changed_user text, changed_device text) RETURNS void
    LANGUAGE sql AS ${sql.literal(`$$
      SELECT queue_key_update(changed_user, ARRAY['m.device_list_update'],
        ('{"user_id":' || to_json(changed_user)::text || ',"device_id":' || to_json(changed_device)::text
          || ',"stream_id":' || change.version || ',"prev_id":[' || change.version - 1 || ']'
          || coalesce(',"device_display_name":' || (SELECT device_name FROM access_tokens
            WHERE user_id = changed_user AND device_id = changed_device AND device_name IS NOT NULL LIMIT 1), '')
          || ',"keys":' || signed_keys(device.keys, device.signatures)::text || '}')::json)
      FROM device_keys AS device JOIN device_list_changes AS change USING (user_id)
      WHERE device.user_id = changed_user AND device.device_id = changed_device $$`)}`

  yield* sql`
    CREATE OR REPLACE FUNCTION note_device_name() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      IF EXISTS (SELECT FROM device_keys WHERE user_id = NEW.user_id AND device_id = NEW.device_id) THEN
        PERFORM note_device_list(NEW.user_id);
        PERFORM queue_device_update(NEW.user_id, NEW.device_id);
      END IF;
      RETURN NULL;
    END $$`)}`

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
      ELSIF TG_OP = 'DELETE' THEN
        SELECT version INTO number FROM device_list_changes WHERE user_id = changed_user;
        PERFORM queue_key_update(changed_user, ARRAY['m.device_list_update'],
          json_build_object('user_id', changed_user, 'device_id', OLD.device_id, 'stream_id', number,
            'prev_id', json_build_array(number - 1), 'deleted', true));
      ELSE
        PERFORM queue_device_update(changed_user, NEW.device_id);
      END IF;
      RETURN NULL;
    END $$`)}`
})
