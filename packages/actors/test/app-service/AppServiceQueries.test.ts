import { createServer, type ServerResponse } from "node:http"
import type { AddressInfo } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { type RoomAlias, ServerName, type UserId } from "@greenroom/protocol/Identifiers"
import { Effect, Fiber, Layer, Queue } from "effect"
import { TestClock } from "effect/testing"
import { AppServiceClient } from "../../src/app-service/AppServiceClient.ts"
import { AppServiceQueries } from "../../src/app-service/AppServiceQueries.ts"
import { AppServices } from "../../src/app-service/AppServices.ts"
import { Departure } from "../../src/runtime/Departure.ts"
import { HomeServerConfig } from "../../src/runtime/HomeServerConfig.ts"

/** An application service that does not answer by itself. */
const silentService = Effect.gen(function* () {
  const asked = yield* Queue.unbounded<{ readonly path: string; readonly response: ServerResponse }>()
  const server = createServer((request, response) => void Queue.offerUnsafe(asked, { path: request.url!, response }))
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => void server.listen(0, "127.0.0.1", () => resume(Effect.void))),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )
  return { asked, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` }
})

const queriesOf = (url: string) =>
  AppServiceQueries.layer.pipe(
    Layer.provide([AppServices.layer, AppServiceClient.layer.pipe(Layer.provide(Departure.layer))]),
    Layer.provide(
      Layer.succeed(HomeServerConfig, {
        serverName: ServerName.make("green.test"),
        dataDir: "unused",
        appServices: [
          {
            id: "net",
            url,
            as_token: "as-token",
            hs_token: "hs-token",
            sender_localpart: "netbot",
            namespaces: {
              users: [{ exclusive: true, regex: "@net_.*" }],
              aliases: [{ exclusive: true, regex: "#net_.*" }],
              rooms: []
            }
          }
        ]
      })
    )
  )

describe("AppServiceQueries", () => {
  it.effect("a silent service is asked once for a name, and holds up each request for 10 seconds", () =>
    Effect.gen(function* () {
      const { asked, url } = yield* silentService
      yield* Effect.gen(function* () {
        const queries = yield* AppServiceQueries
        const alias = "#net_quiet:green.test" as RoomAlias
        for (const ask of [queries.makesAlias(alias), queries.makesUser("@net_quiet:green.test" as UserId)]) {
          const first = yield* Effect.forEach([1, 2, 3], () => Effect.forkChild(ask, { startImmediately: true }))
          const { response } = yield* Queue.take(asked)
          yield* TestClock.adjust("10 seconds")
          for (const fiber of first) assert.isFalse(yield* Fiber.join(fiber))
          const late = yield* Effect.forkChild(ask, { startImmediately: true })
          response.end("{}")
          assert.isTrue(yield* Fiber.join(late))
          assert.strictEqual(yield* Queue.size(asked), 0)
        }
      }).pipe(Effect.provide(queriesOf(url)))
    })
  )

  it.effect("a service is asked for a bounded number of names at a time", () =>
    Effect.gen(function* () {
      const { asked, url } = yield* silentService
      yield* Effect.gen(function* () {
        const queries = yield* AppServiceQueries
        const ask = (name: number) => queries.makesAlias(`#net_${name}:green.test` as RoomAlias)
        const waiting = yield* Effect.forEach(
          Array.from({ length: 256 }, (_, name) => name),
          (name) => Effect.forkChild(ask(name), { startImmediately: true })
        )
        const { response } = yield* Queue.take(asked)
        assert.isFalse(yield* ask(256))
        response.end("{}")
        assert.strictEqual(yield* Effect.raceAll(waiting.map(Fiber.join)), true)
      }).pipe(Effect.provide(queriesOf(url)))
    })
  )
})
