/**
 * A node that goes down while its requests wait for another home server, which is silent: they are answered 503 with `Retry-After`,
 * whichever node has the room, and nothing is half done.
 */
import { createServer } from "node:https"
import { assert, it } from "@effect/vitest"
import { tlsCredentials } from "@greenroom/gateway/federation/TlsCredentials"
import { listen } from "@greenroom/gateway/NodeServer"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { Effect, Queue } from "effect"
import * as GatewayProcess from "../support/GatewayProcess.ts"
import type { Scene } from "../support/Scene.ts"
import { at, freePorts, start } from "./support/Cluster.ts"

const client = "//_matrix/client/v3"
const silent = ServerName.make("silent.test")

/** Listens on a port until the scope ends, and answers nothing. Gives the paths of the requests. */
const silentServer = Effect.fnUntraced(function* (port: number) {
  const asked = yield* Queue.unbounded<string>()
  const dataDir = yield* GatewayProcess.temporaryDirectory
  const server = createServer(yield* Effect.orDie(tlsCredentials({ serverName: silent, dataDir })), ({ url = "" }) =>
    Queue.offerUnsafe(asked, url)
  )
  yield* Effect.orDie(listen(server, { host: "127.0.0.1", port }))
  return asked
})

it.live(
  "requests that wait for a silent server get 503 when their node goes down, and nothing is half done",
  () =>
    Effect.gen(function* () {
      const [port = 0] = yield* freePorts(1)
      const asked = yield* silentServer(port)
      const { nodes } = yield* start(2, {
        environment: {
          GREENROOM_FEDERATION_VERIFY: "false",
          GREENROOM_FEDERATION_SERVERS: `${silent}=127.0.0.1:${port}`
        }
      })
      const [a, b] = nodes as [Scene, Scene]
      const alice = yield* a.register("alice")
      const invited = `@zoe:${silent}`
      const ask = (scene: Scene, method: string, path: string, data?: unknown) =>
        scene.ask(method, `${client}${path}`, { bearer: alice.token, ...(data === undefined ? {} : { data }) })
      const rooms = yield* Effect.forEach(Array.from({ length: 4 }), () =>
        Effect.map(ask(a, "POST", "/createRoom", {}), ({ body }) => encodeURIComponent(body.room_id))
      )
      const waiting = [
        ...rooms.map((room) => ask(a, "POST", `/rooms/${room}/invite`, { user_id: invited })),
        ...["one", "two"].map((room) => ask(a, "POST", `/join/${encodeURIComponent(`!${room}:${silent}`)}`, {})),
        ask(a, "GET", `/profile/${encodeURIComponent(invited)}`)
      ]
      const [answers] = yield* Effect.all(
        [
          Effect.all(waiting, { concurrency: "unbounded" }),
          Effect.gen(function* () {
            yield* Effect.forEach(waiting, () => Queue.take(asked))
            assert.strictEqual(yield* a.gateway.stop, 0)
          })
        ],
        { concurrency: "unbounded" }
      )
      assert.deepStrictEqual(
        answers.map(({ headers, status }) => [status, headers["retry-after"] !== undefined]),
        waiting.map(() => [503, true])
      )
      for (const { gateway } of nodes) assert.notInclude(gateway.output(), "failed inside")
      for (const room of rooms) {
        const { body } = yield* ask(b, "GET", `/rooms/${room}/members`)
        assert.deepStrictEqual(
          body.chunk.map(({ state_key }: { readonly state_key: string }) => state_key),
          [alice.userId]
        )
      }
      assert.strictEqual((yield* at(b, alice).ask("GET", "/events?timeout=0")).status, 200)
    }).pipe(Effect.scoped),
  120_000
)
