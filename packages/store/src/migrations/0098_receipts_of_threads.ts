/**
 * The newest receipts of the threads of a room, which the first answer of `/sync` contains, are found by index.
 *
 * Source: "Threaded read receipts" of the client-server specification.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    CREATE INDEX receipts_of_threads ON receipts (room_nid, xid, nid)
    WHERE type = 'm.read' AND thread_id NOT IN ('', 'main')`
})
