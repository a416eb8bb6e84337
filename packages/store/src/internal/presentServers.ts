/**
 * The servers in a room, as a subquery with the column `server`. Steps from one server to the next in the index, however many
 * members each has.
 */
import type { SqlClient, Statement } from "effect/sql"

/** `roomNid`: an expression of SQL. */
export const presentServers = (sql: SqlClient.SqlClient, roomNid: Statement.Fragment): Statement.Fragment => sql`(
  WITH RECURSIVE servers AS (
    (SELECT server FROM memberships WHERE room_nid = ${roomNid} AND membership = 'join' ORDER BY server LIMIT 1)
    UNION ALL
    SELECT (SELECT further.server FROM memberships further
      WHERE further.room_nid = ${roomNid} AND further.membership = 'join' AND further.server > servers.server
      ORDER BY further.server LIMIT 1)
    FROM servers WHERE servers.server IS NOT NULL)
  SELECT server FROM servers WHERE server IS NOT NULL)`
