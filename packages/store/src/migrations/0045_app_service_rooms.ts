/**
 * The lists of public rooms of the networks that application services reach.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE app_service_rooms (
      room_id text NOT NULL,
      service_id text NOT NULL,
      network_id text NOT NULL,
      PRIMARY KEY (room_id, service_id, network_id)
    )`
})
