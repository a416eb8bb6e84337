/**
 * Redactions by users of other servers that strip nothing are withheld, those too that were stored before there was such a status: whose
 * event is not here, or was here before and was left as it is.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"
import { texts } from "../PgArrays.ts"

/** The room versions whose rules allow a redaction whatever it names (`withholdsRedactions`). */
const versions = ["3", "4", "5", "6", "7", "8", "9", "10", "11", "12"]

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  // A body that mentions `redacted_because` elsewhere keeps its redaction.
  yield* sql`
    UPDATE events AS redaction SET status = 5
    FROM rooms
    WHERE redaction.type = 'm.room.redaction' AND redaction.state_key IS NULL AND redaction.status = 0
      AND rooms.room_nid = redaction.room_nid AND rooms.version = ANY (${texts(versions)}::text[])
      AND NOT EXISTS (SELECT FROM users WHERE users.user_id = redaction.sender)
      AND NOT EXISTS (
        SELECT FROM events AS target
        WHERE target.event_id = redaction.relates_to AND target.room_nid = redaction.room_nid
          AND (target.status <> 0 OR (target.xid, target.nid) > (redaction.xid, redaction.nid)
            OR strpos(target.body, '"redacted_because":') > 0))`
})
