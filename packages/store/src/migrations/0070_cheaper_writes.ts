/**
 * Less work for rows that are written often.
 *
 * - `rooms`: each group commit rewrites the rows of its rooms. Pages have room for a second version of all of them, so that
 *   the indexes need not be written.
 * - `to_device_messages`: the statement that writes a message locks its device; a foreign key would look it up again for each
 *   message. The messages go with the device by a trigger.
 * - A writer that hands its rows to the only node itself sets `greenroom.wakes_others` to `off`: no notification is sent.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE rooms SET (fillfactor = 45)`

  yield* sql`ALTER TABLE to_device_messages DROP CONSTRAINT to_device_messages_user_id_device_id_fkey`
  yield* sql`
    CREATE FUNCTION forget_messages_to_device() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      DELETE FROM to_device_messages USING ended
      WHERE to_device_messages.user_id = ended.user_id AND to_device_messages.device_id = ended.device_id;
      RETURN NULL;
    END $$`)}`
  yield* sql`
    CREATE TRIGGER forget_messages_to_device AFTER DELETE ON access_tokens REFERENCING OLD TABLE AS ended
    FOR EACH STATEMENT EXECUTE FUNCTION forget_messages_to_device()`

  yield* sql`
    CREATE OR REPLACE FUNCTION wake_log() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      IF current_setting('greenroom.wakes_others', true) IS DISTINCT FROM 'off' AND EXISTS (SELECT FROM written) THEN
        PERFORM pg_notify('greenroom_log', log_xid()::text);
      END IF;
      RETURN NULL;
    END $$`)}`
})
