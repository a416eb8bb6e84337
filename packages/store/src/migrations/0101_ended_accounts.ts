/**
 * A deactivated account stores nothing any more. A request that was under way during the deactivation fails when it writes, with the
 * SQLSTATE `UD001` (`endedAccountState`).
 *
 * The lock makes a write and a deactivation happen one after the other: the deactivation deletes what was written before it.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

/** The tables in which accounts store something, and the column of the account. The writers of other tables lock the account, or its device, themselves. */
const tables = {
  account_data: "user_id",
  cross_signing_keys: "user_id",
  delayed_events: "user_id",
  filters: "user_id",
  identity_bindings: "user_id",
  key_backups: "user_id",
  login_tokens: "user_id",
  openid_tokens: "user_id",
  presence_lists: "observer",
  profile_fields: "user_id",
  push_rules: "user_id",
  pushers: "user_id",
  room_aliases: "creator",
  sliding_connections: "user_id",
  third_party_invites: "sender",
  user_identities: "user_id",
  user_signatures: "signer",
  user_threepids: "user_id"
}

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`
    CREATE FUNCTION require_active_account(account text) RETURNS void LANGUAGE plpgsql AS ${sql.literal(`$$
    DECLARE
      ended bigint;
    BEGIN
      SELECT deactivated_at INTO ended FROM users WHERE user_id = account FOR SHARE;
      IF ended IS NOT NULL THEN
        RAISE EXCEPTION USING ERRCODE = 'UD001', MESSAGE = account || ' was deactivated';
      END IF;
    END $$`)}`
  yield* sql`COMMENT ON FUNCTION require_active_account IS 'users of other servers have no account, and pass'`

  for (const column of new Set(Object.values(tables))) {
    yield* sql`
      CREATE FUNCTION ${sql.literal(`require_active_${column}`)}() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
      BEGIN
        PERFORM require_active_account(NEW.${column});
        RETURN NEW;
      END $$`)}`
  }
  for (const [table, column] of Object.entries(tables)) {
    yield* sql`
      CREATE TRIGGER require_active_account BEFORE INSERT ON ${sql.literal(table)}
      FOR EACH ROW EXECUTE FUNCTION ${sql.literal(`require_active_${column}`)}()`
  }
  yield* sql`
    CREATE TRIGGER require_active_account BEFORE INSERT OR UPDATE OF sha256 ON media
    FOR EACH ROW WHEN (NEW.user_id IS NOT NULL) EXECUTE FUNCTION require_active_user_id()`
})
