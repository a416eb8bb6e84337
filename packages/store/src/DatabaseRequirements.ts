/**
 * The requirements of a database: it is writable, stores text as UTF-8, and the role may create tables in its schema. They are
 * checked before the migrations, so that the operator reads a remedy instead of an error of SQL. A clock that differs from that of this
 * machine is logged.
 */
import * as Data from "effect/Data"
import * as Effect from "effect/Effect"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import { clockDifference } from "./ClockDifference.ts"

/** The database does not meet the requirements. The message has the remedy. */
export class DatabaseUnsuitable extends Data.TaggedError("DatabaseUnsuitable")<{ readonly message: string }> {}

interface Found {
  readonly database: string
  readonly role: string
  readonly encoding: string
  readonly schema: string | null
  readonly may_create: boolean
  readonly read_only: boolean
  readonly now: number
}

/** The name as a quoted identifier of SQL. */
const quoted = (name: string): string => (/^[a-z_][a-z0-9_]*$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`)

const encodingProblem = ({ database, encoding }: Found): string =>
  `The database ${database} stores text as ${encoding}, and Greenroom needs UTF-8. Make another one with ` +
  `CREATE DATABASE name ENCODING 'UTF8' LOCALE 'C' TEMPLATE template0, and name it.`

const privilegeProblem = ({ database, role, schema }: Found): string =>
  `The role ${role} may not create tables in the database ${database}. Let it, by ` +
  (schema === null
    ? `CREATE SCHEMA greenroom AUTHORIZATION ${quoted(role)} and ALTER ROLE ${quoted(role)} SET search_path = greenroom, as the owner of the database.`
    : `GRANT CREATE ON SCHEMA ${quoted(schema)} TO ${quoted(role)} as the owner of the database.`)

const readOnlyProblem = ({ database }: Found): string =>
  `The database ${database} is read-only: name the primary server, not a standby, or set default_transaction_read_only = off.`

/** The largest difference of the clocks of this machine and of the database that is not logged, in ms. */
const maxSkew = 30_000

/** A wrong clock gives events wrong times, and keys and tokens expire at the wrong time. */
const clockProblem = (now: number): string | undefined => {
  const skew = Date.now() - now
  if (Math.abs(skew) <= maxSkew) return undefined
  return `The clock of this machine is ${clockDifference(skew)} that of the database: set the wrong one of them by NTP.`
}

/** Errors: `DatabaseUnsuitable`. */
export const checkRequirements: Effect.Effect<void, DatabaseUnsuitable | SqlError.SqlError, SqlClient.SqlClient> =
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [found] = yield* sql<Found>`
      SELECT datname AS database, current_user AS role, pg_encoding_to_char(encoding) AS encoding,
        current_schema() AS schema, coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create,
        current_setting('transaction_read_only')::boolean AS read_only,
        extract(epoch FROM clock_timestamp())::float8 * 1000 AS now
      FROM pg_database WHERE datname = current_database()`
    if (found!.encoding !== "UTF8") return yield* new DatabaseUnsuitable({ message: encodingProblem(found!) })
    if (found!.read_only) return yield* new DatabaseUnsuitable({ message: readOnlyProblem(found!) })
    if (!found!.may_create) return yield* new DatabaseUnsuitable({ message: privilegeProblem(found!) })
    const skew = clockProblem(found!.now)
    if (skew !== undefined) yield* Effect.logWarning(skew)
  })
