/** Of a PDU that cannot be verified yet, the copy of each server that sent it is kept: those of some may be forged. */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient

  yield* sql`ALTER TABLE unverified_pdus DROP CONSTRAINT unverified_pdus_room_id_event_id_key,
    ADD UNIQUE (room_id, event_id, origin)`
})
