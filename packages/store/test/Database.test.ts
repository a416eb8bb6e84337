import { randomUUID } from "node:crypto"
import { PgClient, PgConnection } from "@effect/sql-pg"
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

  it.effect("a URL that names no user, or has a fault, is refused with what is wrong in it", () =>
    Effect.gen(function* () {
      const environment = { USER: process.env.USER, USERNAME: process.env.USERNAME }
      yield* Effect.acquireRelease(
        Effect.sync(() => {
          delete process.env.USER
          delete process.env.USERNAME
        }),
        () => Effect.sync(() => Object.assign(process.env, JSON.parse(JSON.stringify(environment))))
      )
      const messageOf = (url: string) =>
        Effect.map(
          Effect.flip(Layer.build(Database.layer({ databaseUrl: Redacted.make(url), dataDir: "unused" }))),
          ({ message }) => message
        )
      assert.strictEqual(
        yield* messageOf("postgres://127.0.0.1:1/somewhere"),
        "Cannot connect to the database (127.0.0.1:1/somewhere): No username configured. " +
          "Name the user in database_url: postgresql://user:password@host:5432/database."
      )
      assert.match(
        yield* messageOf("postgres://someone@127.0.0.1:1/somewhere?sslmode=never"),
        /: Unrecognized sslmode in URL: "never"\. Correct database_url: /
      )
    }).pipe(Effect.scoped)
  )

  it.effect("a database in another encoding than UTF-8 is refused with the remedy", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.emptyUrl
      const connection = yield* PgConnection.make({ url })
      const name = `ascii_${randomUUID().replaceAll("-", "")}`
      yield* Effect.acquireRelease(
        connection.query(
          `CREATE DATABASE ${name} ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0`
        ),
        () => Effect.orDie(connection.query(`DROP DATABASE ${name} WITH (FORCE)`))
      )
      const ascii = new URL(Redacted.value(url))
      ascii.pathname = `/${name}`
      const error = yield* Effect.flip(Layer.build(Database.migrated({ url: Redacted.make(ascii.href) })))
      assert.strictEqual(error._tag, "DatabaseUnsuitable")
      assert.match(error.message, /stores text as SQL_ASCII, and Greenroom needs UTF-8\. .*ENCODING 'UTF8'/)
    }).pipe(Effect.scoped)
  )

  it.effect("a role that may not create tables is refused with the remedy, and accepted after it", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.emptyUrl
      const connection = yield* PgConnection.make({ url })
      const role = `guest_${randomUUID().replaceAll("-", "")}`
      yield* Effect.acquireRelease(connection.query(`CREATE ROLE ${role} LOGIN`), () =>
        Effect.orDie(
          Effect.andThen(connection.query(`DROP OWNED BY ${role} CASCADE`), connection.query(`DROP ROLE ${role}`))
        )
      )
      const asRole = new URL(Redacted.value(url))
      asRole.searchParams.set("user", role)
      const build = Effect.scoped(Layer.build(Database.migrated({ url: Redacted.make(asRole.href) })))
      const error = yield* Effect.flip(build)
      assert.strictEqual(error._tag, "DatabaseUnsuitable")
      const [, advice] =
        /^The role guest_\w+ may not create tables .* by (GRANT .*) as the owner of the database\.$/.exec(
          error.message
        )!
      yield* connection.query(advice!)
      yield* build
    }).pipe(Effect.scoped)
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

  it.effect("a database that lacks a migration below its newest one is refused, and left alone", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const pool = Database.pool({ url, maxConnections: 2 })
      const errors = yield* Effect.gen(function* () {
        const sql = yield* SqlClient.SqlClient
        yield* sql`DELETE FROM migrations WHERE migration_id = 5`
        const gap = yield* Effect.flip(Database.migrate)
        yield* sql`INSERT INTO migrations (migration_id, name) VALUES (5, 'something_else')`
        const renamed = yield* Effect.flip(Database.migrate)
        yield* sql`UPDATE migrations SET name = 'logins' WHERE migration_id = 5`
        yield* Database.migrate
        return [gap, renamed] as const
      }).pipe(Effect.provide(pool))
      for (const error of errors) {
        assert.strictEqual(error._tag, "DatabaseUnsuitable")
        assert.include(error.message, "lacks the migration 0005_logins, though it has newer ones")
      }
    })
  )
})
