/**
 * A position in the log as a row value of SQL, to be compared with `(xid, nid)`.
 */
import type { SqlClient, Statement } from "effect/sql"
import type { StreamPosition } from "../StreamToken.ts"

export const positionSql = (sql: SqlClient.SqlClient, { nid, xid }: StreamPosition): Statement.Fragment =>
  sql`(${String(xid)}::xid8, ${String(nid)}::bigint)`
