/**
 * Application services: the position up to which each was sent the log, the transaction in flight, and the sessions of the users that they
 * act as. Token IDs of those are negative, so that they never meet one of a login.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE app_services (
      service_id text PRIMARY KEY,
      sent_to text NOT NULL,
      transaction_id bigint NOT NULL DEFAULT 0,
      body text,
      fence bigint NOT NULL DEFAULT 0
    )`
  yield* sql`COMMENT ON COLUMN app_services.sent_to IS 'token of the position after which the next transaction begins'`
  yield* sql`COMMENT ON COLUMN app_services.body IS 'the transaction in flight, until the service has taken it'`
  yield* sql`COMMENT ON COLUMN app_services.fence IS 'grows with each sender; a former one can write nothing'`
  yield* sql`
    CREATE TABLE app_service_sessions (
      token_id bigint GENERATED ALWAYS AS IDENTITY (START WITH -1 INCREMENT BY -1) PRIMARY KEY,
      service_id text NOT NULL,
      user_id text NOT NULL,
      device_id text NOT NULL,
      UNIQUE (service_id, user_id, device_id)
    )`
})
