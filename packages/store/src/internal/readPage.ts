/**
 * One page of the rows of a query, for lists with a total. `count(*) OVER ()` beside `OFFSET` would have no row to report the
 * total in where the page is empty.
 */
import * as Effect from "effect/Effect"
import type * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import type * as Statement from "effect/sql/Statement"

export interface PageQuery {
  /** A SELECT of all rows. */
  readonly rows: Statement.Fragment
  /** The terms of ORDER BY, by the names of the columns. */
  readonly order: Statement.Fragment
  readonly from: number
  readonly limit: number
}

/** The rows of the page, and the number of rows on all pages. */
export const readPage = <Row extends object>(
  sql: SqlClient.SqlClient,
  { from, limit, order, rows }: PageQuery
): Effect.Effect<{ readonly rows: ReadonlyArray<Row>; readonly total: number }, SqlError.SqlError> =>
  Effect.map(
    sql<Row & { readonly total: bigint; readonly is_row: true | null }>`
      WITH found AS MATERIALIZED (${rows})
      SELECT counted.total, page.* FROM (SELECT count(*) AS total FROM found) AS counted
      LEFT JOIN (
        SELECT *, true AS is_row FROM found ORDER BY ${order} LIMIT ${limit} OFFSET ${from}
      ) AS page ON true
      ORDER BY ${order}`,
    (read) => ({ rows: read.filter(({ is_row }) => is_row === true), total: Number(read[0]!.total) })
  )
