import { createServer } from "node:https"
import type { AddressInfo } from "node:net"
import type { TLSSocket } from "node:tls"
import { assert, layer } from "@effect/vitest"
import { FederationConfig } from "@greenroom/actors/federation/FederationConfig"
import { ServerDiscovery } from "@greenroom/actors/federation/ServerDiscovery"
import { makeSelfSigned } from "@greenroom/gateway/federation/TlsCredentials"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { Effect, Layer } from "effect"
import { addressPolicyOf, HomeServers } from "../src/HomeServers.ts"
import { IdentityOptions, type IdentityOptionsShape } from "../src/IdentityOptions.ts"
import { toOptions } from "./support/TestIdentity.ts"

interface ReceivedRequest {
  readonly host: string | undefined
  readonly certificateName: string | false | null
  readonly path: string | undefined
}

/** A home server with a self-signed certificate for `localhost`. */
const homeServer = Effect.gen(function* () {
  const credentials = yield* Effect.promise(() => makeSelfSigned(ServerName.make("localhost"), Date.now()))
  const requests: Array<ReceivedRequest> = []
  const server = createServer(credentials, (request, response) => {
    const { servername } = request.socket as TLSSocket & { readonly servername: string | false | null }
    requests.push({ host: request.headers.host, certificateName: servername, path: request.url })
    response.writeHead(302, { location: "https://127.0.0.1:1/" }).end()
  })
  yield* Effect.acquireRelease(
    Effect.callback<void>((resume) => {
      server.listen(0, "localhost", () => resume(Effect.void))
    }),
    () =>
      Effect.callback<void>((resume) => {
        server.close(() => resume(Effect.void))
        server.closeAllConnections()
      })
  )
  return { name: ServerName.make(`localhost:${(server.address() as AddressInfo).port}`), requests }
})

const post = (name: ServerName, identity: Partial<IdentityOptionsShape>) => {
  const options = toOptions({ identity }, 25).identity
  const discovery = Layer.succeed(FederationConfig, { addressPolicy: addressPolicyOf(options) })
  return HomeServers.use((homeServers) => homeServers.post(name, "/path", "{}")).pipe(
    Effect.provide(
      HomeServers.layer.pipe(
        Layer.provide([Layer.succeed(IdentityOptions, options), ServerDiscovery.layer.pipe(Layer.provide(discovery))])
      )
    )
  )
}

layer(Layer.empty, { excludeTestServices: true })("HomeServers", (it) => {
  it.effect("requests to a home server use HTTPS and its own name, and follow no redirects", () =>
    Effect.gen(function* () {
      const { name, requests } = yield* homeServer
      const status = yield* post(name, { privateAddresses: true, verifyCertificates: false })
      assert.strictEqual(status, 302)
      assert.deepStrictEqual(requests, [{ host: name, certificateName: "localhost", path: "/path" }])
    })
  )

  it.effect("a certificate without a trusted issuer is refused", () =>
    Effect.gen(function* () {
      const { name, requests } = yield* homeServer
      const error = yield* Effect.flip(post(name, { privateAddresses: true }))
      assert.deepInclude(error, { _tag: "HomeServerUnreachable", reason: "DEPTH_ZERO_SELF_SIGNED_CERT" })
      assert.deepStrictEqual(requests, [])
    })
  )

  it.effect("a home server with a configured URL may be on this machine, and its certificate is verified", () =>
    Effect.gen(function* () {
      const { name, requests } = yield* homeServer
      const elsewhere = ServerName.make("green.test")
      const homeServers = new Map([[elsewhere as string, `https://${name}`]])
      const error = yield* Effect.flip(post(elsewhere, { homeServers }))
      assert.strictEqual(error.reason, "DEPTH_ZERO_SELF_SIGNED_CERT")
      assert.strictEqual(yield* post(elsewhere, { homeServers, verifyCertificates: false }), 302)
      assert.deepStrictEqual(
        requests.map(({ host }) => host),
        [name]
      )
    })
  )

  it.effect("a home server on this machine gets no requests", () =>
    Effect.gen(function* () {
      const { name, requests } = yield* homeServer
      const port = name.slice(name.indexOf(":"))
      for (const other of [name, `127.0.0.1${port}`, `[::1]${port}`, `[::ffff:127.0.0.1]${port}`]) {
        const error = yield* Effect.flip(post(ServerName.make(other), { verifyCertificates: false }))
        assert.strictEqual(error._tag, "HomeServerUnreachable", other)
      }
      assert.deepStrictEqual(requests, [])
    })
  )
})
