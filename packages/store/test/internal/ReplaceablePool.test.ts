import { assert, describe, it } from "@effect/vitest"
import { Cause, Effect, Exit, Fiber, Layer, Redacted } from "effect"
import { SqlClient, SqlError } from "effect/sql"
import * as PooledClient from "../../src/internal/PooledClient.ts"
import * as CuttableDatabase from "../../src/testing/CuttableDatabase.ts"
import * as TestDatabase from "../../src/testing/TestDatabase.ts"

const watch = { interval: 100, silence: 300 }

/** A client by a way that can be cut. An attempt to connect has no time limit of its own. */
const world = Effect.gen(function* () {
  const way = yield* CuttableDatabase.make(yield* TestDatabase.url)
  const url = new URL(Redacted.value(way.url))
  url.searchParams.set("connect_timeout", "0")
  const config = { url: Redacted.make(url.href), minConnections: 1, maxConnections: 2, multiplex: true }
  const context = yield* Layer.build(PooledClient.layer(config, watch))
  const ask = (wait = 0) =>
    Effect.provide(
      SqlClient.SqlClient.use((sql) => sql<{ n: number }>`SELECT 1 AS n, pg_sleep(${wait})`),
      context
    )
  const client = Effect.runSync(Effect.provide(SqlClient.SqlClient, context))
  return { way, ask, client }
})

describe("ReplaceablePool", () => {
  it.live("requests that wait for a silent pool are answered when the database is back", () =>
    Effect.gen(function* () {
      const { ask, client, way } = yield* world
      assert.strictEqual((yield* ask())[0]?.n, 1)
      yield* way.silence
      // The attempt of the pool to connect is never answered: without another pool nobody would ever be.
      const waiting = yield* Effect.forEach(
        Array.from({ length: 11 }, (_, index) => index),
        (index) => Effect.forkChild(index % 2 === 0 ? ask() : client.withTransaction(ask()))
      )
      yield* Effect.repeat(Effect.yieldNow, { until: () => way.held() > 0 })
      yield* way.mend
      const answers = yield* Effect.forEach(waiting, Fiber.await)
      assert.strictEqual((yield* ask())[0]?.n, 1)
      // Queries in flight when the connection was cut may have failed, as with every pool.
      const lost = answers.filter(Exit.isFailure).map(({ cause }) => Cause.squash(cause))
      assert.isBelow(lost.length, answers.length)
      for (const error of lost) assert.instanceOf(error, SqlError.SqlError)
    })
  )

  it.live("a pool stays as it is where the database does not answer either, or all of it is in use", () =>
    Effect.gen(function* () {
      const { ask, client, way } = yield* world
      const [connection] = yield* client<{ pid: number }>`SELECT pg_backend_pid() AS pid`
      const slow = yield* Effect.forEach(Array.from({ length: 16 }), () =>
        Effect.forkChild(client.withTransaction(ask(0.1)))
      )
      for (const fiber of slow) yield* Fiber.join(fiber)
      const stays = yield* client`SELECT 1 FROM pg_stat_activity WHERE pid = ${connection!.pid}`
      assert.lengthOf(stays, 1)
      yield* way.cut
      const failed = yield* Effect.exit(ask())
      assert.strictEqual(failed._tag, "Failure")
      yield* way.mend
      yield* Effect.retry(ask(), { while: () => true })
    })
  )
})
