/**
 * Which users of this server were not offline before it starts: their last values in `short_lived` as others see them, which the start
 * removes. A crash of PostgreSQL has removed them already.
 */
import type { SqlClient } from "effect/sql"

/** A statement, for the transaction that empties `short_lived`. */
export const keepFormerPresence = (sql: SqlClient.SqlClient) => sql`
  INSERT INTO former_presence (user_id)
  SELECT users.user_id FROM short_lived JOIN users ON users.user_id = short_lived.key
  WHERE short_lived.value::json #>> '{value,state}' <> 'offline'
  ON CONFLICT DO NOTHING`
