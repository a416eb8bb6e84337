import { assert, describe, it } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Effect, Layer, Redacted } from "effect"
import * as Database from "../src/Database.ts"
import { ServerSettings } from "../src/ServerSettings.ts"
import * as TestDatabase from "../src/testing/TestDatabase.ts"

const node = (url: Redacted.Redacted, serverName: string) =>
  ServerSettings.layer(serverName as ServerName).pipe(Layer.provide(Database.pool({ url, maxConnections: 2 })))

const secrets = Effect.gen(function* () {
  const settings = yield* ServerSettings
  const bytes = yield* Effect.all([settings.secret("room_id"), settings.secret("turn")], { concurrency: "unbounded" })
  return bytes.map((secret) => Buffer.from(Redacted.value(secret)).toString("hex"))
})

describe("ServerSettings", () => {
  it.effect("nodes that start together and later ones have the same secrets, one for each purpose", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const start = Effect.provide(secrets, node(url, "example.org"))
      const [first, second] = yield* Effect.all([start, start], { concurrency: "unbounded" })
      assert.deepStrictEqual(first, second)
      assert.deepStrictEqual(yield* start, first)
      assert.notStrictEqual(first[0], first[1])
      assert.strictEqual(first[0]?.length, 64)
    })
  )

  it.effect("a database of another server name is refused, by both names", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      yield* Effect.provide(ServerSettings, node(url, "example.org"))
      const error = yield* Effect.flip(Effect.provide(ServerSettings, node(url, "other.example")))
      assert.strictEqual(error._tag, "ServerNameMismatch")
      assert.include(error.message, "example.org")
      assert.include(error.message, "other.example")
    })
  )
})
