import { once } from "node:events"
import { createServer as createTlsServer } from "node:https"
import { connect } from "node:net"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { listen } from "../src/NodeServer.ts"

describe("listen", () => {
  it.live("ends connections whose TLS handshake goes on when its scope closes", () =>
    Effect.gen(function* () {
      const scope = yield* Scope.make()
      const server = createTlsServer({ handshakeTimeout: 60 * 60_000 })
      const { port } = yield* Scope.provide(listen(server, { host: "127.0.0.1", port: 0 }), scope)
      const accepted = once(server, "connection")
      const socket = connect(port, "127.0.0.1").on("error", () => {})
      yield* Effect.promise(() => accepted)
      const ended = once(socket, "close")
      yield* Scope.close(scope, Exit.void)
      yield* Effect.promise(() => ended)
      assert.isFalse(server.listening)
    })
  )
})
