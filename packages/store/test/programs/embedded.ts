/**
 * A stand-in for the gateway in the tests of processes: runs the embedded PostgreSQL in the directory of its argument,
 * writes `ready` and the URL, and on SIGINT or SIGTERM the result of a last query, `drained`. A failure is one line on
 * standard error.
 */

import { NodeRuntime } from "@effect/platform-node"
import { PgConnection } from "@effect/sql-pg"
import { Console, Effect, Redacted } from "effect"
import { EmbeddedPostgres } from "../../src/EmbeddedPostgres.ts"

Effect.gen(function* () {
  const { url } = yield* EmbeddedPostgres.make({ dataDir: process.argv[2]! })
  const connection = yield* PgConnection.make({ url })
  yield* Effect.addFinalizer(() =>
    connection.query("SELECT 'drained' AS word").pipe(
      Effect.flatMap((result) => Console.log(result.rows[0]?.word)),
      Effect.orDie
    )
  )
  yield* Console.log(`ready ${Redacted.value(url)}`)
  return yield* Effect.never
}).pipe(
  Effect.scoped,
  Effect.catchTag("EmbeddedPostgresError", (error) =>
    Effect.andThen(
      Console.error(error.message),
      Effect.sync(() => {
        process.exitCode = 2
      })
    )
  ),
  NodeRuntime.runMain
)
