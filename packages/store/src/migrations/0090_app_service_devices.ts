/**
 * Sessions in which an application service acts as a device end with the device, however that ends: all nodes hear of it by
 * `session_revocations`.
 *
 * Source: "Identity assertion" of the application service API.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE FUNCTION end_app_service_devices() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      DELETE FROM app_service_sessions USING ended
      WHERE app_service_sessions.user_id = ended.user_id AND app_service_sessions.device_id = ended.device_id;
      RETURN NULL;
    END $$`)}`
  yield* sql`
    CREATE TRIGGER end_app_service_devices AFTER DELETE ON access_tokens REFERENCING OLD TABLE AS ended
    FOR EACH STATEMENT EXECUTE FUNCTION end_app_service_devices()`
  yield* sql`
    DELETE FROM app_service_sessions WHERE device_id <> 'appservice:' || service_id AND NOT EXISTS (
      SELECT FROM access_tokens
      WHERE access_tokens.user_id = app_service_sessions.user_id
        AND access_tokens.device_id = app_service_sessions.device_id)`
})
