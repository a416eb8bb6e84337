/**
 * A fresh, migrated database for tests, dropped when they end. It lies on the PostgreSQL that `globalSetup` started for
 * this run of vitest.
 *
 *     layer(TestDatabase.layer)("RoomStore", (it) => { it.effect("...", () => ...) })
 */

import { randomUUID } from "node:crypto"
import { type PgClient, PgConnection } from "@effect/sql-pg"
import { Clock, Context, Effect, Layer, Redacted, type Scope } from "effect"
import type { SqlClient, SqlError } from "effect/sql"
import { inject } from "vitest"
import * as Database from "../Database.ts"
import type {} from "./globalSetup.ts"

const admin = <A>(use: (connection: PgConnection.PgConnection) => Effect.Effect<A, SqlError.SqlError>) =>
  Effect.scoped(
    Effect.suspend(() =>
      Effect.flatMap(PgConnection.make({ url: Redacted.make(inject("greenroomPostgres")), prepare: false }), use)
    )
  )

const create = (template: string) =>
  Effect.acquireRelease(
    Effect.gen(function* () {
      const name = `test_${randomUUID().replaceAll("-", "")}`
      yield* admin((connection) => connection.query(`CREATE DATABASE ${name} TEMPLATE ${template}`))
      return name
    }),
    (name) => Effect.orDie(admin((connection) => connection.query(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`)))
  ).pipe(
    Effect.map((name) => {
      const url = new URL(inject("greenroomPostgres"))
      url.pathname = `/${name}`
      return Redacted.make(url.href)
    })
  )

/** The URL of a fresh, migrated database, for tests that start the program itself. */
export const url: Effect.Effect<Redacted.Redacted, SqlError.SqlError, Scope.Scope> = Effect.suspend(() =>
  create(inject("greenroomTemplate"))
)

/** The URL of a database without any table. */
export const emptyUrl: Effect.Effect<Redacted.Redacted, SqlError.SqlError, Scope.Scope> = create("template1")

/**
 * The clock of the machine, for the connections of tests that have another one: PostgreSQL answers in its own time, and a
 * connection gives it up after a certain time alone.
 */
const machineClock = Layer.succeed(Clock.Clock, Context.get(Context.empty() as Context.Context<never>, Clock.Clock))

/** A pool of connections to a fresh, migrated database. */
export const layer: Layer.Layer<PgClient.PgClient | SqlClient.SqlClient, SqlError.SqlError> = Layer.unwrap(
  Effect.map(url, (url) => Database.pool({ url, maxConnections: 6 }))
).pipe(Layer.provide(machineClock))
