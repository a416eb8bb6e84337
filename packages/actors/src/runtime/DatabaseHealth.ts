/**
 * The health of the database, for `/health`: whether it answers, and whether it can be written to. The latter is tried only
 * if there is reason to doubt it, and at most every few seconds, so that health checks cost nothing.
 */
import { statfs } from "node:fs/promises"
import { EventLog } from "@greenroom/store/EventLog"
import * as MonotonicCache from "@greenroom/store/MonotonicCache"
import { probeWrites } from "@greenroom/store/WriteProbe"
import { Context, Effect, Layer, Predicate } from "effect"
import { SqlClient } from "effect/sql"
import { isSqlError } from "effect/sql/SqlError"
import { HomeServerConfig } from "./HomeServerConfig.ts"

/** How long the database may take to answer. */
const answerTimeout = "2 seconds"

/** How long the outcome of a probe holds. */
const probeLifetime = "2 seconds"

/** Free bytes beside the data directory that are reason for doubt. */
const littleSpace = 64 * 1024 * 1024

const ok = "ok"

/** Free bytes of the file system; unknown where the directory is not there. */
const freeSpace = (directory: string): Effect.Effect<number | undefined> =>
  Effect.promise(() =>
    statfs(directory).then(
      ({ bavail, bsize }) => bavail * bsize,
      () => undefined
    )
  )

/** The reasons why a database refuses writes, by SQLSTATE, and the remedies. */
const refusals: { readonly [code: string]: readonly [reason: string, remedy: string] } = {
  "25006": ["it is read-only", "Name the primary server, or set default_transaction_read_only = off."],
  "53100": ["its disk is full", "Make room on the disk of PostgreSQL: the server goes on by itself."]
}

/** Logs why a write failed. Returns the status. */
const reportRefusal = (error: unknown): Effect.Effect<string> => {
  const code = isSqlError(error) && Predicate.hasProperty(error.reason.cause, "code") ? error.reason.cause.code : ""
  const [reason, remedy] = refusals[String(code)] ?? []
  const status = reason === undefined ? "cannot be written to" : `cannot be written to: ${reason}`
  return Effect.as(
    remedy === undefined
      ? Effect.logError(`The database ${status}`, error)
      : Effect.logError(`The database ${status}. ${remedy}`),
    status
  )
}

const make = Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  const { lag, lastFailure } = yield* EventLog
  const { dataDir } = yield* HomeServerConfig

  const probe = probeWrites.pipe(
    Effect.provideService(SqlClient.SqlClient, sql),
    Effect.timeout(answerTimeout),
    Effect.as(ok),
    Effect.catch(reportRefusal)
  )
  const probes = yield* MonotonicCache.make({ lookup: () => probe, capacity: 1, timeToLive: probeLifetime })

  const isDoubtful = Effect.map(
    freeSpace(dataDir),
    (free) => lastFailure() !== undefined || (free !== undefined && free < littleSpace)
  )

  const status = sql`SELECT 1`.pipe(
    Effect.timeout(answerTimeout),
    Effect.andThen(isDoubtful),
    Effect.flatMap((doubtful) => (doubtful ? MonotonicCache.get(probes, "write") : Effect.succeed(ok))),
    Effect.catch(() => Effect.succeed("does not answer"))
  )

  return DatabaseHealth.of({ status, logLag: lag })
})

/** Whether the database answers and can be written to. */
export class DatabaseHealth extends Context.Service<
  DatabaseHealth,
  {
    /** `ok`, or the fault of the database. Answers within a few seconds. */
    readonly status: Effect.Effect<string>
    /** For how many milliseconds there have been rows of the event log that cannot be read yet. */
    readonly logLag: Effect.Effect<number>
  }
>()("greenroom/actors/runtime/DatabaseHealth") {
  static readonly layer = Layer.effect(DatabaseHealth, make)
}
