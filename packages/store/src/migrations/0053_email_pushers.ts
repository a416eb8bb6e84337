/**
 * Pushers that send mails: when each sent its last one, and how long it waits until the next, both in milliseconds.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* sql`ALTER TABLE pusher_progress ADD COLUMN mailed_at bigint, ADD COLUMN mail_interval bigint`
})
