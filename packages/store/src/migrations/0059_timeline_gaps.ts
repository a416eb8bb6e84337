/**
 * Events of timelines some of whose predecessors are not here: the timeline has a hole before them. Rooms from before this
 * migration have no rows: only the end of their history is looked for.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE TABLE timeline_gaps (
      nid bigint PRIMARY KEY,
      room_nid bigint NOT NULL,
      xid xid8 NOT NULL
    )`
  yield* sql`CREATE INDEX timeline_gaps_of_room ON timeline_gaps (room_nid, xid, nid)`
})
