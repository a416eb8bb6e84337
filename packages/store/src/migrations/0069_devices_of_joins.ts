/**
 * A user who enters a room is announced to the servers in it that shared no room with the user before: by an
 * `m.device_list_update` without `prev_id`, upon which they ask for the devices. One device stands for all.
 *
 * Source: "Device Management" of the server-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE FUNCTION announce_devices_of_join() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    DECLARE
      own text := (SELECT server FROM memberships WHERE room_nid = NEW.room_nid AND user_id = NEW.user_id);
    BEGIN
      IF 'join' = (SELECT membership FROM membership_changes
        WHERE user_id = NEW.user_id AND room_nid = NEW.room_nid AND nid < NEW.nid ORDER BY nid DESC LIMIT 1)
      THEN RETURN NULL; END IF;
      INSERT INTO outgoing_edus (destination, edu_type, content)
      WITH RECURSIVE servers AS (
        (SELECT server FROM memberships
          WHERE room_nid = NEW.room_nid AND membership = 'join' ORDER BY server LIMIT 1)
        UNION ALL
        SELECT (SELECT further.server FROM memberships further
          WHERE further.room_nid = NEW.room_nid AND further.membership = 'join' AND further.server > servers.server
          ORDER BY further.server LIMIT 1)
        FROM servers WHERE servers.server IS NOT NULL)
      SELECT servers.server, 'm.device_list_update',
        '{"user_id":' || to_json(NEW.user_id)::text || ',"device_id":' || to_json(device.device_id)::text
          || ',"stream_id":' || coalesce((SELECT updates FROM device_list_changes WHERE user_id = NEW.user_id), 0)
          || ',"prev_id":[]'
          || coalesce(',"device_display_name":' || device.device_name, '')
          || coalesce(',"keys":' || signed_keys(device.keys, device.signatures)::text, '') || '}'
      FROM servers CROSS JOIN (
        SELECT device_id, device_name, keys, signatures
        FROM access_tokens LEFT JOIN device_keys USING (user_id, device_id)
        WHERE user_id = NEW.user_id ORDER BY keys IS NULL, last_used_at DESC LIMIT 1) AS device
      WHERE servers.server <> own AND NOT EXISTS (
        SELECT FROM memberships mine JOIN memberships theirs USING (room_nid)
        WHERE mine.user_id = NEW.user_id AND mine.membership = 'join' AND mine.room_nid <> NEW.room_nid
          AND theirs.server = servers.server AND theirs.membership = 'join');
      RETURN NULL;
    END $$`)}`
  yield* sql`
    CREATE TRIGGER devices_of_join AFTER INSERT ON membership_changes
    FOR EACH ROW WHEN (NEW.membership = 'join') EXECUTE FUNCTION announce_devices_of_join()`
})
