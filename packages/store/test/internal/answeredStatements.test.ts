import { PgConnection } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Fiber, Redacted } from "effect"
import { inject } from "vitest"
import { forgettingAnswered } from "../../src/internal/answeredStatements.ts"
import type {} from "../../src/testing/globalSetup.ts"

describe("a connection that is never idle", () => {
  it.live("forgets the rows of the statements that it has answered", () =>
    Effect.gen(function* () {
      const made = yield* PgConnection.make({ url: Redacted.make(inject("greenroomPostgres")), multiplex: true })
      const connection = forgettingAnswered(made)
      const first = yield* Effect.forkChild(connection.query("SELECT 1"))
      const second = yield* Effect.forkChild(connection.query("SELECT pg_sleep(0.3)"))
      yield* Fiber.join(first)
      yield* Effect.yieldNow
      const { pipelineInFlight } = connection as unknown as { readonly pipelineInFlight: ReadonlyArray<unknown> }
      assert.deepStrictEqual([pipelineInFlight.length, pipelineInFlight[0]], [2, undefined])
      yield* Fiber.join(second)
      yield* Effect.yieldNow
      assert.strictEqual(pipelineInFlight.length, 0)
    })
  )
})
