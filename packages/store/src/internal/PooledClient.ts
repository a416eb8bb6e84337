/**
 * `PgClient` over a `ReplaceablePool`, as `PgClient.layer` makes it over a fixed pool.
 */
import * as PgClient from "@effect/sql-pg/PgClient"
import type * as PgPool from "@effect/sql-pg/PgPool"
import * as Effect from "effect/Effect"
import type * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import type * as SqlError from "effect/sql/SqlError"
import * as Statement from "effect/sql/Statement"
import { underLease } from "../WriteLease.ts"
import { forgettingAnswered } from "./answeredStatements.ts"
import { withGenericPlans } from "./genericPlans.ts"
import { commit, PgConnectionAdapter } from "./PgConnectionAdapter.ts"
import * as ReplaceablePool from "./ReplaceablePool.ts"

const pgJson = Statement.custom<Statement.Custom<"PgJson", unknown>>("PgJson")

const make = Effect.fnUntraced(function* (config: PgPool.Config, watch: ReplaceablePool.WatchOptions) {
  const pool = withGenericPlans(yield* ReplaceablePool.make(config, watch))
  const sql = yield* SqlClient.make({
    driver: "@effect/sql-pg",
    acquirer: underLease(Effect.map(pool.get, (connection) => new PgConnectionAdapter(forgettingAnswered(connection)))),
    borrower: (f) => underLease(pool.use((connection) => f(new PgConnectionAdapter(forgettingAnswered(connection))))),
    transactionAcquirer: underLease(
      Effect.map(pool.reserve, (connection) => new PgConnectionAdapter(forgettingAnswered(connection)))
    ),
    compiler: PgClient.makeCompiler(),
    prepareTransactionControls: true,
    commit,
    releaseSavepoint: (name) => `RELEASE SAVEPOINT ${name}`,
    spanAttributes: [["db.system.name", "postgresql"]]
  })
  return Object.assign(sql, {
    [PgClient.TypeId]: PgClient.TypeId,
    config,
    json: (value: unknown) => Statement.fragment([pgJson(value as never)]),
    listen: (channel: string) => Effect.flatMap(pool.reserve, (connection) => connection.listen(channel)),
    notify: (channel: string, payload: string) => Effect.asVoid(sql`SELECT pg_notify(${channel}, ${payload})`)
  }) satisfies PgClient.PgClient
})

/** A pool of connections that replaces itself where it has fallen silent. */
export const layer = (
  config: PgPool.Config,
  watch: ReplaceablePool.WatchOptions = {}
): Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, SqlError.SqlError> => PgClient.layerFrom(make(config, watch))
