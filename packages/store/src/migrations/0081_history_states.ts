/**
 * States before back-filled events: of these only what decides who may read them is kept, as another server gave it. Back-filled events from
 * before this migration have no rows: the least open visibility that their room ever had decides.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE history_states (
      nid bigint PRIMARY KEY,
      room_nid bigint NOT NULL,
      chain bigint NOT NULL,
      seq integer NOT NULL
    )`
  yield* sql`CREATE INDEX history_states_of_room ON history_states (room_nid)`
  yield* sql`COMMENT ON COLUMN history_states.chain IS
    'a chain of m.room.history_visibility and the memberships of local users alone'`
})
