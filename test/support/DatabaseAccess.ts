/** Statements on the database of a server under test, and writes that PostgreSQL refuses as on a full disk. */
import * as Database from "@greenroom/store/Database"
import { Effect, type Redacted, Schedule } from "effect"
import { SqlClient } from "effect/sql"

export interface RefusedWrites {
  /** The name of the trigger, and of a sequence that counts the refused rows, which is not rolled back. */
  readonly name?: string
  readonly table: string
  readonly operation?: "INSERT" | "UPDATE"
  /** A condition on the row `NEW`; without it all rows are refused. */
  readonly condition?: string
}

export const databaseAccess = (url: Redacted.Redacted) => {
  const select = <Row extends object = object>(statement: string) =>
    SqlClient.SqlClient.use((sql) => sql.unsafe<Row>(statement)).pipe(
      Effect.provide(Database.pool({ url, maxConnections: 1 }))
    )
  const runAll = (statements: ReadonlyArray<string>) => Effect.forEach(statements, (statement) => select(statement))
  const refuse = ({ condition = "true", name = "refused", operation = "INSERT", table }: RefusedWrites) =>
    runAll([
      `CREATE SEQUENCE ${name}`,
      `CREATE FUNCTION ${name}() RETURNS trigger LANGUAGE plpgsql AS $$
       BEGIN
         PERFORM nextval('${name}');
         RAISE 'refused by the test' USING ERRCODE = '53100';
       END $$`,
      `CREATE TRIGGER ${name} BEFORE ${operation} ON ${table} FOR EACH ROW WHEN (${condition}) EXECUTE FUNCTION ${name}()`
    ])
  /** Waits until PostgreSQL has refused a row. */
  const untilRefused = ({ name = "refused" }: Pick<RefusedWrites, "name"> = {}) =>
    Effect.repeat(select<{ readonly is_called: boolean }>(`SELECT is_called FROM ${name}`), {
      until: ([row]) => row?.is_called === true,
      schedule: Schedule.spaced("20 millis")
    })
  const accept = ({ name = "refused", table }: RefusedWrites) =>
    runAll([`DROP TRIGGER ${name} ON ${table}`, `DROP FUNCTION ${name}`, `DROP SEQUENCE ${name}`])
  return { select, refuse, untilRefused, accept }
}
