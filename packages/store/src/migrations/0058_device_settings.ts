/**
 * The settings of a device are removed with the device, however it ends.
 *
 * Source: "Server-side deletion of local notification settings" (MSC3890) of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE FUNCTION remove_device_settings() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      DELETE FROM account_data USING ended
      WHERE account_data.user_id = ended.user_id AND account_data.room_id = '' AND account_data.type IN (
        'm.local_notification_settings.' || ended.device_id,
        'org.matrix.msc3890.local_notification_settings.' || ended.device_id);
      RETURN NULL;
    END $$`)}`
  yield* sql`
    CREATE TRIGGER remove_device_settings AFTER DELETE ON access_tokens REFERENCING OLD TABLE AS ended
    FOR EACH STATEMENT EXECUTE FUNCTION remove_device_settings()`
  yield* sql`
    DELETE FROM account_data
    WHERE room_id = '' AND type ~ '^(m|org[.]matrix[.]msc3890)[.]local_notification_settings[.]' AND NOT EXISTS (
      SELECT FROM access_tokens
      WHERE access_tokens.user_id = account_data.user_id AND account_data.type IN (
        'm.local_notification_settings.' || device_id, 'org.matrix.msc3890.local_notification_settings.' || device_id))`
})
