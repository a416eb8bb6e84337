/**
 * What other servers get when cross-signing keys change: unsigned keys have no `signatures`, as their user uploaded them, and a
 * user-signing key, which only its user sees, is announced to nobody.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE FUNCTION cross_signing_key(of_user text, usage_of_key text) RETURNS text LANGUAGE sql STABLE AS ${sql.literal(`$$
      SELECT CASE WHEN signatures = '{}' THEN keys ELSE signed_keys(keys, signatures)::text END
      FROM cross_signing_keys WHERE user_id = of_user AND usage = usage_of_key $$`)}`

  yield* sql`
    CREATE OR REPLACE FUNCTION note_device_list_of_row() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    DECLARE
      changed_user text := coalesce(NEW.user_id, OLD.user_id);
      number bigint;
    BEGIN
      PERFORM note_device_list(changed_user);
      IF TG_TABLE_NAME = 'cross_signing_keys' THEN
        IF coalesce(NEW.usage, OLD.usage) <> 'user_signing' THEN
          PERFORM queue_key_update(changed_user, ARRAY['m.signing_key_update', 'org.matrix.signing_key_update'],
            ('{"user_id":' || to_json(changed_user)::text
              || coalesce(',"master_key":' || cross_signing_key(changed_user, 'master'), '')
              || coalesce(',"self_signing_key":' || cross_signing_key(changed_user, 'self_signing'), '') || '}')::json);
        END IF;
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
