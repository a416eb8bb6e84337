/**
 * A connection of `@effect/sql-pg` as `SqlClient` uses it. `PgClient` has the same inside, but makes it only for a pool of
 * its own.
 */
import type * as PgConnection from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import * as Stream from "effect/Stream"
import type * as SqlConnection from "effect/sql/SqlConnection"
import { SqlError, UnknownError } from "effect/sql/SqlError"

type Rows = (<A extends object>(rows: ReadonlyArray<A>) => ReadonlyArray<A>) | undefined

export class PgConnectionAdapter implements SqlConnection.Connection {
  private readonly connection: PgConnection.PgConnection

  constructor(connection: PgConnection.PgConnection) {
    this.connection = connection
  }

  private run(sql: string, params: ReadonlyArray<unknown>, transformRows: Rows, prepare?: boolean) {
    return Effect.map(this.connection.query(sql, params, prepare), ({ rows }) =>
      transformRows === undefined ? rows : transformRows(rows)
    )
  }

  execute(sql: string, params: ReadonlyArray<unknown>, transformRows: Rows) {
    return this.run(sql, params, transformRows)
  }

  executeRaw(sql: string, params: ReadonlyArray<unknown>) {
    return this.connection.query(sql, params)
  }

  executeStream(sql: string, params: ReadonlyArray<unknown>, transformRows: Rows) {
    const stream = this.connection.stream(sql, params)
    return transformRows === undefined ? stream : Stream.mapArray(stream, (rows) => transformRows(rows) as never)
  }

  executeValues(sql: string, params: ReadonlyArray<unknown>) {
    return this.connection.queryValues(sql, params)
  }

  executeValuesUnprepared(sql: string, params: ReadonlyArray<unknown>) {
    return this.connection.queryValues(sql, params, false)
  }

  executeUnprepared(sql: string, params: ReadonlyArray<unknown>, transformRows: Rows) {
    return this.run(sql, params, transformRows, false)
  }
}

/** Ends a transaction. PostgreSQL answers `ROLLBACK` to the `COMMIT` of one that had failed. */
export const commit = (connection: SqlConnection.Connection): Effect.Effect<void, SqlError> =>
  Effect.flatMap(connection.executeRaw("COMMIT", []) as Effect.Effect<PgConnection.Result, SqlError>, ({ command }) => {
    if (command !== "ROLLBACK") return Effect.void
    const message = "COMMIT rolled back a transaction that had failed"
    return Effect.fail(
      new SqlError({ reason: new UnknownError({ cause: new Error(message), message, operation: "commit" }) })
    )
  })
