/**
 * Users of this server hear of devices of each other that came, went or were renamed, also of those without keys: clients show the
 * devices of others. Other servers hear of devices with keys alone.
 *
 * The first device of an account is no news, as nobody shares a room with a new user.
 *
 * Source: "Tracking the device list for a user" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE FUNCTION note_devices() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      PERFORM note_device_list(user_id) FROM (
        SELECT DISTINCT user_id FROM changed WHERE EXISTS (
          SELECT FROM access_tokens AS other
          WHERE other.user_id = changed.user_id AND other.device_id <> changed.device_id) OR TG_OP = 'DELETE') AS owner;
      RETURN NULL;
    END $$`)}`
  yield* sql`
    CREATE TRIGGER note_new_devices AFTER INSERT ON access_tokens REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_devices()`
  yield* sql`
    CREATE TRIGGER note_ended_devices AFTER DELETE ON access_tokens REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION note_devices()`

  yield* sql`
    CREATE OR REPLACE FUNCTION note_device_name() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      PERFORM note_device_list(NEW.user_id);
      IF EXISTS (SELECT FROM device_keys WHERE user_id = NEW.user_id AND device_id = NEW.device_id) THEN
        PERFORM queue_device_update(NEW.user_id, NEW.device_id);
      END IF;
      RETURN NULL;
    END $$`)}`
})
