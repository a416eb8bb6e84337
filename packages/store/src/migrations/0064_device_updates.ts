/**
 * `stream_id` counts the `m.device_list_update`s of a user alone. It counted changes of cross-signing keys too, which are
 * announced by another EDU, so that other servers missed a `prev_id` after each of them.
 *
 * Source: "Device Management" of the server-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`ALTER TABLE device_list_changes ADD COLUMN updates bigint NOT NULL DEFAULT 0`
  yield* sql`COMMENT ON COLUMN device_list_changes.updates IS 'counts the changes of devices, for other servers'`
  yield* sql`UPDATE device_list_changes SET updates = version`

  yield* sql`
    CREATE FUNCTION count_device_update(changed_user text) RETURNS bigint LANGUAGE sql AS ${sql.literal(`$$
      UPDATE device_list_changes SET updates = updates + 1 WHERE user_id = changed_user RETURNING updates $$`)}`

  yield* sql`
    CREATE OR REPLACE FUNCTION queue_device_update(changed_user text, changed_device text) RETURNS void
    LANGUAGE sql AS ${sql.literal(`$$
      SELECT queue_key_update(changed_user, ARRAY['m.device_list_update'],
        ('{"user_id":' || to_json(changed_user)::text || ',"device_id":' || to_json(changed_device)::text
          || ',"stream_id":' || update.number || ',"prev_id":[' || update.number - 1 || ']'
          || coalesce(',"device_display_name":' || (SELECT device_name FROM access_tokens
            WHERE user_id = changed_user AND device_id = changed_device AND device_name IS NOT NULL LIMIT 1), '')
          || ',"keys":' || signed_keys(device.keys, device.signatures)::text || '}')::json)
      FROM device_keys AS device CROSS JOIN count_device_update(changed_user) AS update (number)
      WHERE device.user_id = changed_user AND device.device_id = changed_device $$`)}`

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
        number := count_device_update(changed_user);
        PERFORM queue_key_update(changed_user, ARRAY['m.device_list_update'],
          json_build_object('user_id', changed_user, 'device_id', OLD.device_id, 'stream_id', number,
            'prev_id', json_build_array(number - 1), 'deleted', true));
      ELSE
        PERFORM queue_device_update(changed_user, NEW.device_id);
      END IF;
      RETURN NULL;
    END $$`)}`
})
