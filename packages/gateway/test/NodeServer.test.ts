import { once } from "node:events"
import { mkdtemp, rm } from "node:fs/promises"
import { createServer as createTlsServer } from "node:https"
import { connect } from "node:net"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { text } from "node:stream/consumers"
import { connect as tlsConnect } from "node:tls"
import { assert, describe, it } from "@effect/vitest"
import { Effect, Exit, Scope } from "effect"
import { tlsCredentials } from "../src/federation/TlsCredentials.ts"
import { answerClientError, listen } from "../src/NodeServer.ts"
import { serverName } from "./TestGateway.ts"

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

describe("bytes that are not HTTP", () => {
  it.live("are answered, also where more of them arrive at once than are read at a time", () =>
    Effect.gen(function* () {
      const dataDir = yield* Effect.promise(() => mkdtemp(join(tmpdir(), "greenroom-gateway-")))
      const server = createTlsServer(yield* tlsCredentials({ serverName, dataDir }))
      yield* Effect.promise(() => rm(dataDir, { recursive: true }))
      server.on("clientError", answerClientError)
      const { port } = yield* listen(server, { host: "127.0.0.1", port: 0 })
      for (let round = 0; round < 20; round++) {
        const client = tlsConnect({ host: "127.0.0.1", port, rejectUnauthorized: false })
        client.end(`GET /${"a".repeat(200_000)}`)
        assert.match(yield* Effect.promise(() => text(client)), /^HTTP\/1\.1 431 .*"M_TOO_LARGE"/s)
      }
    }).pipe(Effect.scoped)
  )
})
