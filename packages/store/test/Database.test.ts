import { PgClient } from "@effect/sql-pg"
import { assert, describe, it, layer } from "@effect/vitest"
import { Effect, Layer, Redacted } from "effect"
import { SqlClient } from "effect/sql"
import * as Database from "../src/Database.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

layer(TestDatabase.layer)("a test's database", (it) => {
  it.effect("has the tables of a home server", () =>
    Effect.gen(function* () {
      const sql = yield* SqlClient.SqlClient
      yield* sql`INSERT INTO users (user_id, created_at) VALUES ('@alice:example.org', ${Date.now()})`
      const rows = yield* sql`SELECT user_id FROM users`
      assert.deepStrictEqual(rows, [{ user_id: "@alice:example.org" }])
    })
  )
})

describe("Database", () => {
  it.effect("nodes that start on an empty database at once all find its tables", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.emptyUrl
      const node = Effect.scoped(
        Effect.gen(function* () {
          const context = yield* Layer.build(Database.migrated({ url, maxConnections: 2 }))
          const sql = yield* PgClient.PgClient.pipe(Effect.provide(context))
          return (yield* sql`SELECT count(*)::integer AS count FROM users`)[0]
        })
      )
      const counts = yield* Effect.all([node, node, node, node], { concurrency: "unbounded" })
      assert.deepStrictEqual(counts, [{ count: 0 }, { count: 0 }, { count: 0 }, { count: 0 }])
    })
  )

  it.effect("a database that does not answer is named, without its password", () =>
    Effect.gen(function* () {
      const databaseUrl = Redacted.make("postgresql://someone:hunter2@127.0.0.1:1/somewhere")
      const error = yield* Effect.flip(Layer.build(Database.layer({ databaseUrl, dataDir: "unused" })))
      assert.strictEqual(error._tag, "DatabaseUnreachable")
      assert.include(error.message, "127.0.0.1:1/somewhere")
      assert.notInclude(JSON.stringify(error), "hunter2")
    })
  )

  it.effect("a database that a newer version wrote is left alone", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const pool = Database.pool({ url, maxConnections: 2 })
      const error = yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`INSERT INTO migrations (migration_id, name) VALUES (9999, 'from_the_future')`
        return yield* Effect.flip(Database.migrate)
      }).pipe(Effect.provide(pool))
      assert.strictEqual(error._tag, "DatabaseTooNew")
      assert.include(error.message, "9999")
    })
  )
})
