/**
 * The database signals at once which logins have ended, or have another access token, so that no node of a cluster goes on with
 * what it remembers. The rows of the log come too, but may wait there for older transactions.
 *
 * An event that is being sent cannot be cancelled any more.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE FUNCTION signal_session_end() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      PERFORM pg_notify('greenroom_sessions', json_build_array('ended', NEW.token_id, NEW.xid::text::bigint)::text);
      RETURN NULL;
    END $$`)}`
  yield* sql`
    CREATE TRIGGER signal_session_end AFTER INSERT ON session_revocations
    FOR EACH ROW EXECUTE FUNCTION signal_session_end()`
  yield* sql`
    CREATE FUNCTION signal_token_change() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      PERFORM pg_notify('greenroom_sessions', json_build_array('changed', NEW.token_id)::text);
      RETURN NULL;
    END $$`)}`
  yield* sql`
    CREATE TRIGGER signal_token_change AFTER UPDATE OF token_hash ON access_tokens
    FOR EACH ROW WHEN (OLD.token_hash <> NEW.token_hash) EXECUTE FUNCTION signal_token_change()`

  yield* sql`ALTER TABLE delayed_events ADD COLUMN sending boolean NOT NULL DEFAULT false`
  yield* sql`COMMENT ON COLUMN delayed_events.sending IS 'its time has come: it is sent, and cannot be cancelled'`
})
