/**
 * Which users of this server were not offline before it starts: their last values in `short_lived` as others see them, which the start
 * removes. A crash of PostgreSQL has removed them already.
 */
import type { SqlClient } from "effect/sql"

/**
 * A statement, for the transaction that empties `short_lived`. The values are searched as text: PostgreSQL does not take JSON apart that
 * has U+0000 in a string, such as a status message. Within a string the quotation marks of a member would be escaped.
 */
export const keepFormerPresence = (sql: SqlClient.SqlClient) => sql`
  INSERT INTO former_presence (user_id)
  SELECT users.user_id FROM short_lived JOIN users ON users.user_id = short_lived.key
  WHERE strpos(short_lived.value, '"state":"') > 0 AND strpos(short_lived.value, '"state":"offline"') = 0
  ON CONFLICT DO NOTHING`
