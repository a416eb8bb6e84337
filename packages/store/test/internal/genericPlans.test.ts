import { assert, layer } from "@effect/vitest"
import { Deferred, Effect, Fiber } from "effect"
import { SqlClient } from "effect/sql"
import * as TestDatabase from "../../src/testing/TestDatabase.ts"

layer(TestDatabase.layer)("genericPlans", (it) => {
  it.effect("every connection plans a statement once, in transactions and beside them", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      const mode = Effect.map(
        sql<{ pid: number; mode: string }>`
          SELECT pg_backend_pid() AS pid, current_setting('plan_cache_mode') AS mode`,
        ([row]) => row!
      )
      const [begun, mayEnd] = [yield* Deferred.make<void>(), yield* Deferred.make<void>()]
      const first = yield* mode
      const transaction = Effect.tap(mode, () =>
        Effect.andThen(Deferred.succeed(begun, undefined), Deferred.await(mayEnd))
      )
      const fiber = yield* Effect.forkChild(sql.withTransaction(transaction))
      yield* Deferred.await(begun)
      const beside = [yield* mode, yield* sql.withTransaction(mode)]
      yield* Deferred.succeed(mayEnd, undefined)
      const within = yield* Fiber.join(fiber)
      assert.notStrictEqual(beside[0]?.pid, within.pid)
      assert.deepStrictEqual(
        [first, ...beside, within].map(({ mode }) => mode),
        Array.from({ length: 4 }, () => "force_generic_plan")
      )
    })
  )
})
