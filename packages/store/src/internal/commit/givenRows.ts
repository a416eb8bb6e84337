/**
 * The rows of a batch as a table in the commit statement: `given`, with an array parameter for each column. Most messages have no value in
 * most columns, so columns that are null in all rows of a batch are constants instead of parameters.
 */
import { bigints, booleans, integers, texts } from "../../PgArrays.ts"
import type { Part } from "./statementParts.ts"

interface Column<Row> {
  readonly type: "bigint" | "boolean" | "integer" | "text"
  readonly parameterOf: (rows: ReadonlyArray<Row>) => unknown
  readonly isNullIn: (rows: ReadonlyArray<Row>) => boolean
}

/** Columns by their names. */
type Columns<Row> = Readonly<Record<string, Column<Row>>>

const column =
  <Value>(type: Column<never>["type"], parameterOf: (values: ReadonlyArray<Value | null>) => unknown) =>
  <Row>(valueOf: (row: Row) => Value | null): Column<Row> => ({
    type,
    parameterOf: (rows) => parameterOf(rows.map(valueOf)),
    isNullIn: (rows) => rows.every((row) => valueOf(row) === null)
  })

export const bigint = column("bigint", bigints)
export const boolean = column("boolean", booleans)
export const integer = column("integer", integers)
export const text = column("text", texts)

/** `given` with parameters for some columns, and nulls for the others. */
const templateOf = (
  present: ReadonlyArray<readonly [string, Column<never>]>,
  absent: ReadonlyArray<readonly [string, Column<never>]>
): ReadonlyArray<string> => {
  const nulls = absent.map(([name, { type }]) => `, NULL::${type} AS ${name}`).join("")
  const names = present.map(([name]) => name).join(", ")
  const types = present.map(([, { type }]) => `::${type}[]`)
  return [
    `(SELECT *${nulls} FROM unnest(`,
    ...types.map((type, index) => (index < types.length - 1 ? `${type}, ` : `${type}) AS present (${names})) AS given`))
  ]
}

/**
 * The table `given` for any rows. `sparse`: columns that are null in most batches. Those of a group are absent together, since each
 * combination is a statement of its own, which PostgreSQL has to plan.
 */
export const givenRows = <Row>(
  always: Columns<Row>,
  ...sparse: ReadonlyArray<Columns<Row>>
): ((rows: ReadonlyArray<Row>) => Part) => {
  const groups = sparse.map((group) => Object.entries(group))
  const templates = new Map<number, ReadonlyArray<string>>()
  return (rows) => {
    const present = Object.entries(always)
    const absent: typeof present = []
    let combination = 0
    groups.forEach((group, index) => {
      const isAbsent = group.every(([, column]) => column.isNullIn(rows))
      if (isAbsent) combination |= 1 << index
      ;(isAbsent ? absent : present).push(...group)
    })
    const template = templates.get(combination) ?? templateOf(present, absent)
    templates.set(combination, template)
    return { template, values: present.map(([, column]) => column.parameterOf(rows)) }
  }
}
