/**
 * Parts of the commit statement that write rows of a batch. Such a part reads its rows from the table `given`, which has the room and fence
 * of each row, and an array parameter for each other column. It joins `fenced`, so that rows of rooms that were left out are not written.
 *
 * Most messages have no value in most columns of their event, so columns that are null in all rows of a batch can be constants instead of
 * parameters (`sparse`).
 */
import { bigints, booleans, integers, texts } from "../../PgArrays.ts"
import type { DescribedCommit } from "./describedEvents.ts"
import type { Part } from "./statementParts.ts"

/** Rows with the room and fence of each. */
export interface FencedRows<Row> {
  readonly rooms: ReadonlyArray<number>
  readonly fences: ReadonlyArray<number>
  readonly rows: ReadonlyArray<Row>
}

/** The type of a column in SQL, and its value in a row. */
type Column<Row> =
  | readonly ["bigint" | "integer", (row: Row, index: number) => number | null]
  | readonly ["boolean", (row: Row, index: number) => boolean | null]
  | readonly ["text", (row: Row, index: number) => string | null]

/** Columns by their names. */
type Columns<Row> = Readonly<Record<string, Column<Row>>>

const parameterOf = <Row>([type, valueOf]: Column<Row>, rows: ReadonlyArray<Row>): unknown => {
  switch (type) {
    case "bigint":
      return bigints(rows.map(valueOf))
    case "boolean":
      return booleans(rows.map(valueOf))
    case "integer":
      return integers(rows.map(valueOf))
    case "text":
      return texts(rows.map(valueOf))
  }
}

const isNullIn = <Row>([, valueOf]: Column<Row>, rows: ReadonlyArray<Row>): boolean =>
  rows.every((row, index) => valueOf(row, index) === null)

/** The place of the table `given` in the SQL of a part. */
export const given = Symbol("given")

/** SQL with the table `given`: what is before it and after it. */
export const withRows = (template: TemplateStringsArray, _table: typeof given): ReadonlyArray<string> => template

interface Written<Row> {
  readonly sql: ReadonlyArray<string>
  readonly columns: Columns<Row>
  /**
   * Columns that are null in most batches. Those of a group are absent together, since each combination is a statement of its own, which
   * PostgreSQL has to plan.
   */
  readonly sparse?: ReadonlyArray<Columns<Row>>
}

const templateOf = <Row>(
  [before, after]: ReadonlyArray<string>,
  present: ReadonlyArray<readonly [string, Column<Row>]>,
  absent: ReadonlyArray<readonly [string, Column<Row>]>
): ReadonlyArray<string> => {
  const nulls = absent.map(([name, [type]]) => `, NULL::${type} AS ${name}`).join("")
  const names = ["room_nid", "fence", ...present.map(([name]) => name)].join(", ")
  const types = ["bigint", "bigint", ...present.map(([, [type]]) => type)]
  const end = `) AS present (${names})) AS given${after}`
  return [
    `${before}(SELECT *${nulls} FROM unnest(`,
    ...types.map((type, index) => `::${type}[]${index === types.length - 1 ? end : ", "}`)
  ]
}

/** A part that writes the given rows. */
export const writing = <Row>({ columns, sparse = [], sql }: Written<Row>) => {
  const always = Object.entries(columns)
  const groups = sparse.map((group) => Object.entries(group))
  const templates = new Map<number, ReadonlyArray<string>>()
  return ({ fences, rooms, rows }: FencedRows<Row>): Part => {
    const present = [...always]
    const absent: typeof present = []
    let combination = 0
    for (const [index, group] of groups.entries()) {
      const isAbsent = group.every(([, column]) => isNullIn(column, rows))
      if (isAbsent) combination |= 1 << index
      const among = isAbsent ? absent : present
      among.push(...group)
    }
    const template = templates.get(combination) ?? templateOf(sql, present, absent)
    templates.set(combination, template)
    const values = present.map(([, column]) => parameterOf(column, rows))
    return { template, values: [bigints(rooms), bigints(fences), ...values] }
  }
}

/** Undefined if there are none: most commits have no rows of most kinds. */
const collect = <Row>(
  commits: ReadonlyArray<DescribedCommit>,
  rowsOf: (commit: DescribedCommit) => ReadonlyArray<Row>
): FencedRows<Row> | undefined => {
  const rooms: Array<number> = []
  const fences: Array<number> = []
  const rows: Array<Row> = []
  for (const described of commits) {
    const { fence, roomNid } = described.commit
    for (const row of rowsOf(described)) {
      rows.push(row)
      rooms.push(roomNid)
      fences.push(fence)
    }
  }
  return rows.length === 0 ? undefined : { rooms, fences, rows }
}

/** A part that writes the rows of one kind that a batch has; undefined if it has none. */
export const writingRows = <Row>(rowsOf: (commit: DescribedCommit) => ReadonlyArray<Row>, written: Written<Row>) => {
  const write = writing(written)
  return (commits: ReadonlyArray<DescribedCommit>): Part | undefined => {
    const found = collect(commits, rowsOf)
    return found && write(found)
  }
}
