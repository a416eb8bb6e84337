/**
 * Rooms are listed as their m.room.config says. Corrects rooms that were listed as they were created.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`
    UPDATE rooms SET visibility = CASE config.visibility WHEN 'public' THEN 'public' ELSE 'private' END
    FROM (
      SELECT DISTINCT ON (room_nid) room_nid, body::json -> 'content' ->> 'visibility' AS visibility
      FROM events WHERE type = 'm.room.config' AND state_key = '' AND status = 0
      ORDER BY room_nid, xid DESC, nid DESC
    ) AS config
    WHERE config.room_nid = rooms.room_nid AND rooms.current_chain IS NOT NULL`
})
