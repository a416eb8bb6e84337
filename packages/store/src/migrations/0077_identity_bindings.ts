/** At which identity servers the addresses of users are bound: those that no setting names are asked to unbind them too. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE identity_bindings (
      user_id text NOT NULL,
      medium text NOT NULL,
      address text NOT NULL,
      id_server text NOT NULL,
      PRIMARY KEY (user_id, medium, address, id_server)
    )`
  yield* sql`COMMENT ON TABLE identity_bindings IS 'addresses that identity servers bind to users of this server'`
  yield* sql`COMMENT ON COLUMN identity_bindings.id_server IS 'the URL, without a slash at the end'`
})
