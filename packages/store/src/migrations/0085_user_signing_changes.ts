/**
 * A new user-signing key concerns only its user, whose other devices get it. It is logged as a signature of the user on themselves: rows
 * of `user_signatures` are for the signer alone.
 *
 * Source: "Cross-signing" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE OR REPLACE FUNCTION note_device_list_of_row() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    DECLARE
      changed_user text := coalesce(NEW.user_id, OLD.user_id);
      number bigint;
    BEGIN
      IF TG_TABLE_NAME = 'cross_signing_keys' THEN
        IF coalesce(NEW.usage, OLD.usage) = 'user_signing' THEN
          INSERT INTO user_signatures (signer, user_id, signatures) VALUES (changed_user, changed_user, '{}')
          ON CONFLICT (signer, user_id) DO UPDATE SET xid = excluded.xid, nid = excluded.nid;
          RETURN NULL;
        END IF;
        PERFORM note_device_list(changed_user);
        PERFORM queue_key_update(changed_user, ARRAY['m.signing_key_update', 'org.matrix.signing_key_update'],
          ('{"user_id":' || to_json(changed_user)::text
            || coalesce(',"master_key":' || cross_signing_key(changed_user, 'master'), '')
            || coalesce(',"self_signing_key":' || cross_signing_key(changed_user, 'self_signing'), '') || '}')::json);
        RETURN NULL;
      END IF;
      PERFORM note_device_list(changed_user);
      IF TG_OP = 'DELETE' THEN
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
