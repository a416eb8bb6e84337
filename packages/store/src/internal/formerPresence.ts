/** Which users of this server others saw online, before it starts: the Presence actor stores when users appear and when they go offline. */
import type { SqlClient } from "effect/sql"

/** A statement, for the start of the first node. */
export const keepFormerPresence = (sql: SqlClient.SqlClient) => sql`
  INSERT INTO former_presence (user_id)
  SELECT user_id FROM presence WHERE state NOT IN ('hidden', 'offline')
  ON CONFLICT DO NOTHING`
