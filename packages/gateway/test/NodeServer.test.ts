import { once } from "node:events"
import { Agent, get, type ServerResponse } from "node:http"
import { createServer as createTlsServer } from "node:https"
import { connect } from "node:net"
import { text } from "node:stream/consumers"
import { connect as tlsConnect } from "node:tls"
import { assert, describe, it } from "@effect/vitest"
import { temporaryDirectory } from "@greenroom/store/testing/Loopback"
import { Effect, Exit, Fiber, Scope } from "effect"
import { tlsCredentials } from "../src/federation/TlsCredentials.ts"
import { answerClientError, answerRequests, listen, makeInFlight, makeNodeServer } from "../src/NodeServer.ts"
import { serverName } from "./TestGateway.ts"

describe("listen", () => {
  it.live("closes connections in the middle of a TLS handshake with its scope", () =>
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

describe("a server that drains", () => {
  it.live("ends a connection with the answer to the next request", () =>
    Effect.gen(function* () {
      const server = makeNodeServer()
      const inFlight = makeInFlight()
      const held: Array<ServerResponse> = []
      answerRequests(server, inFlight, ({ url }, response) => {
        if (url === "/held") held.push(response)
        else response.end()
      })
      const { port } = yield* listen(server, { host: "127.0.0.1", port: 0 })
      const agent = yield* Effect.acquireRelease(
        Effect.sync(() => new Agent({ keepAlive: true })),
        (agent) => Effect.sync(() => agent.destroy())
      )
      const ask = (path: string) =>
        Effect.callback<string | undefined>((resume) => {
          get({ agent, port, path }, (response) => {
            response.resume().once("end", () => setImmediate(resume, Effect.succeed(response.headers.connection)))
          })
        })
      assert.strictEqual(yield* ask("/before"), "keep-alive")
      const answered = yield* Effect.forkScoped(ask("/held"))
      yield* Effect.promise(() => once(server, "request"))
      const drained = yield* Effect.forkScoped(inFlight.drained, { startImmediately: true })
      assert.strictEqual(yield* ask("/meanwhile"), "close")
      while (held.length === 0) yield* Effect.promise(() => new Promise(setImmediate))
      held[0]!.end()
      yield* Effect.all([Fiber.join(drained), Fiber.join(answered)])
    }).pipe(Effect.scoped)
  )
})

describe("bytes that are not HTTP", () => {
  it.live("are answered with an error, even if they exceed what the server reads at once", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory("gateway")
      const server = createTlsServer(yield* tlsCredentials({ serverName, dataDir }))
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

describe("the Host header", () => {
  it.live("must name a host once, also in the handshake of a WebSocket", () =>
    Effect.gen(function* () {
      const server = makeNodeServer()
      answerRequests(server, makeInFlight(), (_, response) => response.end())
      server.on("upgrade", (_request, socket) => socket.end("HTTP/1.1 101 Switching Protocols\r\n\r\n"))
      const { port } = yield* listen(server, { host: "127.0.0.1", port: 0 })
      const statusFor = (headers: ReadonlyArray<string>, version = "1.1") =>
        Effect.promise(() => {
          const client = connect(port, "127.0.0.1")
          client.write([`GET / HTTP/${version}`, ...headers, "", ""].join("\r\n"))
          return text(client)
        }).pipe(Effect.map((answer) => Number(answer.split(" ")[1])))
      const close = "Connection: close"
      const upgrade = ["Upgrade: websocket", "Connection: upgrade"]
      assert.strictEqual(yield* statusFor(["Host: a", close]), 200)
      assert.strictEqual(yield* statusFor(["Host: a", ...upgrade]), 101)
      assert.strictEqual(yield* statusFor(["Host: a", "HOST: b", close]), 400)
      assert.strictEqual(yield* statusFor(["Host: a", "Host: a", close]), 400)
      assert.strictEqual(yield* statusFor(["Host: a", "Host: b"], "1.0"), 400)
      for (const host of ["", "a b", "a/c", "a, b", "a@b", "http://a", "[::1", "a:b", "a?"]) {
        assert.strictEqual(yield* statusFor([`Host: ${host}`, close]), 400, host)
      }
      for (const host of ["A-b.example:8448", "[::1]:80", "127.0.0.1", "a:", "xn--a_b"]) {
        assert.strictEqual(yield* statusFor([`Host: ${host}`, close]), 200, host)
      }
      assert.strictEqual(yield* statusFor([close]), 400)
      assert.strictEqual(yield* statusFor(["Host: a", "Host: b", ...upgrade]), 400)
      assert.strictEqual(yield* statusFor(upgrade), 400)
    }).pipe(Effect.scoped)
  )
})
