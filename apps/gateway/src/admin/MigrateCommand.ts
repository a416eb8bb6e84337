/**
 * `greenroom migrate`: brings the database to the version of this program, without starting the server. The server does the
 * same at its start.
 */
import { MigrationProgress, newestMigration } from "@greenroom/store/Database"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as SqlClient from "effect/sql/SqlClient"
import { commandOptions } from "./CommandOptions.ts"
import { printLine } from "./CommandOutput.ts"
import { onMigratedSql } from "./Connection.ts"
import { makeProgress } from "./Progress.ts"

/** Shows the progress bar while the layer of the database is built, which migrates it. */
const showing = Layer.unwrap(
  Effect.acquireRelease(Effect.sync(makeProgress), ({ clear }) => Effect.sync(clear)).pipe(
    Effect.map(({ show }) => Layer.succeed(MigrationProgress, (what: string, done: number) => show({ what, done })))
  )
)

export const command = Command.make("migrate", commandOptions, (options) =>
  Effect.gen(function* () {
    const sql = yield* SqlClient.SqlClient
    const [row] = yield* sql<{ id: number }>`SELECT max(migration_id) AS id FROM migrations`
    const database = row?.id ?? newestMigration
    yield* printLine(options, `The database is at version ${database}`, { version: database })
  }).pipe(Effect.provide(Layer.provide(onMigratedSql(options), showing)))
).pipe(Command.withDescription("Migrate the database to the version of this program, without starting the server"))
