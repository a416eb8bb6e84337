/**
 * Positions in the log, as columns of rows and as row values of SQL.
 */
import type { SqlClient, Statement } from "effect/sql"
import type { StreamPosition } from "../StreamToken.ts"

/** The position of a row with the columns `xid::text` and `nid`. */
export const positionOf = ({ nid, xid }: { readonly xid: string; readonly nid: bigint }): StreamPosition => ({
  xid: Number(xid),
  nid: Number(nid)
})

/** A position as a row value, to be compared with `(xid, nid)`. */
export const positionSql = (sql: SqlClient.SqlClient, { nid, xid }: StreamPosition): Statement.Fragment =>
  sql`(${String(xid)}::xid8, ${String(nid)}::bigint)`
