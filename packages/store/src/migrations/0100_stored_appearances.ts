/**
 * From this version on `presence` says which users others see online. Users who are online now are taken from `short_lived`, where they were
 * kept before.
 */
import { Effect } from "effect"
import { SqlClient } from "effect/sql"

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  // The values are searched as text: PostgreSQL does not take JSON apart that has U+0000 in a string, such as a status message.
  yield* sql`
    INSERT INTO former_presence (user_id)
    SELECT users.user_id FROM short_lived JOIN users ON users.user_id = short_lived.key
    WHERE strpos(short_lived.value, '"state":"') > 0 AND strpos(short_lived.value, '"state":"offline"') = 0
    ON CONFLICT DO NOTHING`
  yield* sql`COMMENT ON COLUMN presence.state IS
    'the last state that was stored: neither hidden nor offline while others see the user online'`
})
