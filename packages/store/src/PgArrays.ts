/**
 * Array parameters for `unnest(...)`, so that one statement writes or reads many rows. Elements may be null.
 */
import * as PgTypes from "@effect/sql-pg/PgTypes"
import * as Result from "effect/Result"

const array = (values: ReadonlyArray<unknown>, elementOid: number): ReadonlyArray<string> =>
  Result.getOrThrow(PgTypes.array(values, elementOid)) as never

/** A `text[]` parameter. */
export const texts = (values: ReadonlyArray<string | null>) => array(values, PgTypes.OID.text)

/** A `bigint[]` parameter. */
export const bigints = (values: ReadonlyArray<number | null>) =>
  array(
    values.map((value) => (value === null ? null : BigInt(value))),
    PgTypes.OID.int8
  )

/** An `integer[]` parameter. */
export const integers = (values: ReadonlyArray<number | null>) => array(values, PgTypes.OID.int4)

/** An array of text as one text, for an element that a statement casts to `text[]`: arrays of arrays must be of one length. */
export const textArrayLiteral = (values: ReadonlyArray<string>): string =>
  `{${values.map((value) => `"${value.replace(/["\\]/g, "\\$&")}"`).join(",")}}`

/** A `boolean[]` parameter. */
export const booleans = (values: ReadonlyArray<boolean | null>) => array(values, PgTypes.OID.bool)
