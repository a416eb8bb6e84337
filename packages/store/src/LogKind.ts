/**
 * The kinds of rows that the event log carries beside events and memberships. All are ordered by `(xid, nid)` behind one
 * low watermark, and a reader gets them together in a `LogSlice`.
 *
 * To add a kind: a migration that makes its table and calls `add_to_log('table')`, a file with its `logKind(...)`, and an
 * entry in `logKinds`. Writing a row of the table wakes all nodes, so writers do not need the log. A writer whose rows the next request
 * of the same client must find calls `EventLog.committed`, or writes in `EventLog.transaction`.
 */
import type { StreamPosition } from "./StreamToken.ts"

/** A table whose rows are read with the log. */
export interface AnyLogKind {
  /** The name of the table. */
  readonly table: string
  /** The columns of a row: SQL expressions, by the names of its properties. */
  readonly columns: { readonly [property: string]: string }
}

/** A table whose rows are read with the log, each as a `Row`. */
export interface LogKind<in out Row> extends AnyLogKind {
  readonly columns: { readonly [Property in keyof Row & string]: string }
}

export const logKind = <Row>(table: string, columns: LogKind<Row>["columns"]): LogKind<Row> => ({ table, columns })

/** A row with its position. */
export interface LogRow<Row> {
  readonly position: StreamPosition
  readonly row: Row
}

/** The rows of several kinds, by the name of their table. */
export type LogRows = ReadonlyMap<string, ReadonlyArray<LogRow<never>>>

const none: ReadonlyArray<never> = []

/** Rows of one kind. */
export const ofKind = <Row>({ table }: LogKind<Row>, rows: ReadonlyArray<LogRow<Row>>): LogRows =>
  new Map([[table, rows as ReadonlyArray<LogRow<unknown>> as ReadonlyArray<LogRow<never>>]])

/** The rows of one kind, in the order of their positions. */
export const rowsOf = <Row>(rows: LogRows, { table }: LogKind<Row>): ReadonlyArray<LogRow<Row>> =>
  (rows.get(table) as ReadonlyArray<LogRow<Row>> | undefined) ?? none
