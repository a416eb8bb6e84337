/**
 * Servers that begin to give a file and stop: neither the request nor what it holds waits for them for ever.
 */
import { createServer } from "node:https"
import { assert, describe, it } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { EventLog } from "@greenroom/store/EventLog"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { listenOnLoopback } from "@greenroom/store/testing/Loopback"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Layer } from "effect"
import { FederationConfig } from "../../src/federation/FederationConfig.ts"
import * as FederationLayer from "../../src/federation/FederationLayer.ts"
import { RemoteMedia } from "../../src/media/RemoteMedia.ts"
import { HomeServerConfig } from "../../src/runtime/HomeServerConfig.ts"
import { certificates } from "../federation/support/TlsServer.ts"

const ourName = "us.test" as ServerName
const origin = "example.org" as ServerName

/** A server that gives the beginning of an answer, and keeps the connection. */
const stallingServer = Effect.fnUntraced(function* (
  status: number,
  headers: { readonly [name: string]: string },
  beginning: string
) {
  const { credentials } = yield* certificates
  const gone = Promise.withResolvers<void>()
  const server = createServer(credentials, (_, response) => {
    response.writeHead(status, headers)
    response.write(beginning)
    response.once("close", () => gone.resolve())
  })
  return { port: yield* listenOnLoopback(server), gone: gone.promise }
})

const mediaOf = (port: number) => {
  const options = { verifyCertificates: false, requestTimeout: 300, staticServers: { [origin]: `127.0.0.1:${port}` } }
  return Effect.map(
    Layer.build(
      RemoteMedia.layer.pipe(
        Layer.provide(FederationLayer.layer(options)),
        Layer.provide(Layer.succeed(FederationConfig, options)),
        Layer.provide(Layer.merge(SigningKeys.layer(ourName), EventLog.layer)),
        Layer.provide(Layer.succeed(HomeServerConfig, { serverName: ourName, dataDir: "unused" })),
        Layer.provide(Layer.fresh(TestDatabase.layer))
      )
    ),
    (context) => Effect.runSync(Effect.provide(RemoteMedia, context))
  )
}

const multipart = { "content-type": "multipart/mixed; boundary=b" }

describe("RemoteMedia", () => {
  const stalls = [
    ["before the parts", 200, multipart, "\r\n"],
    ["in the first part", 200, multipart, "--b\r\nContent-Type: application/json\r\n\r\n{"],
    ["in the head of the file", 200, multipart, "--b\r\n\r\n{}\r\n--b\r\nContent-Type: text/plain\r\n"],
    ["in an error", 404, { "content-type": "application/json" }, `{"errcode":`]
  ] as const
  for (const [where, status, headers, beginning] of stalls) {
    it.live(`a server that stops ${where} is given up`, () =>
      Effect.gen(function* () {
        const { gone, port } = yield* stallingServer(status, headers, beginning)
        const media = yield* mediaOf(port)
        const failure = yield* Effect.flip(Effect.scoped(media.fetch({ origin, mediaId: "endless" }, 100)))
        assert.strictEqual(failure._tag, "M_NOT_FOUND")
        // The connection does not stay.
        yield* Effect.promise(() => gone)
      })
    )
  }
})
