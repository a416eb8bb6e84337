import { createServer } from "node:net"
import { assert, it } from "@effect/vitest"
import { Effect, Layer } from "effect"
import { FederationConfig } from "../../../src/federation/FederationConfig.ts"
import { PushGateway } from "../../../src/user/push/PushGateway.ts"

/** A server on a loopback address, with the number of its connections. */
const listener = Effect.acquireRelease(
  Effect.callback<{ readonly port: number; readonly connections: () => number; readonly close: () => void }>(
    (resume) => {
      let count = 0
      const server = createServer((socket) => {
        count++
        socket.destroy()
      })
      server.listen(0, "127.0.0.1", () => {
        const address = server.address()
        const port = typeof address === "object" && address !== null ? address.port : 0
        resume(Effect.succeed({ port, connections: () => count, close: () => server.close() }))
      })
    }
  ),
  ({ close }) => Effect.sync(close)
)

it.live("a push gateway whose name has a private address is not connected to", () =>
  Effect.gen(function* () {
    const { notify } = yield* PushGateway
    const { connections, port } = yield* listener
    const failed = yield* Effect.flip(notify(`https://localhost:${port}/_matrix/push/v1/notify`, {}))
    assert.include(failed.reason, "no public address")
    assert.strictEqual(connections(), 0)
  }).pipe(Effect.scoped, Effect.provide(PushGateway.layer.pipe(Layer.provide(Layer.succeed(FederationConfig, {})))))
)
