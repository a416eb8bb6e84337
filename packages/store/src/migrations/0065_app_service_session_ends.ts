/**
 * Sessions of application services end with the account of their user, as logins do: all nodes hear of it by
 * `session_revocations`.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`CREATE INDEX app_service_sessions_user ON app_service_sessions (user_id)`
  yield* sql`
    CREATE TRIGGER revoke_sessions AFTER DELETE ON app_service_sessions REFERENCING OLD TABLE AS ended
    FOR EACH STATEMENT EXECUTE FUNCTION revoke_sessions()`
  yield* sql`
    CREATE FUNCTION end_app_service_sessions() RETURNS trigger LANGUAGE plpgsql AS ${sql.literal(`$$
    BEGIN
      DELETE FROM app_service_sessions WHERE user_id = NEW.user_id;
      RETURN NULL;
    END $$`)}`
  yield* sql`
    CREATE TRIGGER end_app_service_sessions AFTER UPDATE OF deactivated_at ON users
    FOR EACH ROW WHEN (OLD.deactivated_at IS NULL AND NEW.deactivated_at IS NOT NULL)
    EXECUTE FUNCTION end_app_service_sessions()`
  yield* sql`
    DELETE FROM app_service_sessions USING users
    WHERE app_service_sessions.user_id = users.user_id AND users.deactivated_at IS NOT NULL`
})
