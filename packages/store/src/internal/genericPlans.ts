/**
 * Has PostgreSQL plan a statement once on each connection, instead of anew for the values of each of its first five executions, and of
 * all executions where that looks cheaper. A plan must then suit all values: `Plans.test.ts` reads those of hot queries.
 */
import type { PgConnection } from "@effect/sql-pg/PgConnection"
import * as Effect from "effect/Effect"
import type { SqlError } from "effect/sql/SqlError"
import type { Pool } from "./ReplaceablePool.ts"

/** A reserved connection is a view of its session, of a transaction each. */
const sessionOf = (connection: PgConnection): object =>
  "base" in connection && typeof connection.base === "object" && connection.base !== null ? connection.base : connection

/** The pool with this setting on each connection, by `SET`: poolers such as PgBouncer refuse settings in the first message of a session. */
export const withGenericPlans = (pool: Pool): Pool => {
  const known = new WeakSet<object>()
  const set = (connection: PgConnection): Effect.Effect<PgConnection, SqlError> =>
    known.has(sessionOf(connection))
      ? Effect.succeed(connection)
      : Effect.map(connection.query("SET plan_cache_mode = force_generic_plan", []), () => {
          known.add(sessionOf(connection))
          return connection
        })
  return {
    get: Effect.flatMap(pool.get, set),
    reserve: Effect.flatMap(pool.reserve, set),
    use: (f) =>
      pool.use((connection) => (known.has(sessionOf(connection)) ? f(connection) : Effect.flatMap(set(connection), f)))
  }
}
