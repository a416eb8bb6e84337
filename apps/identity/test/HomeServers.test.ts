import { createServer } from "node:https"
import type { TLSSocket } from "node:tls"
import { assert, it, layer } from "@effect/vitest"
import { FederationConfig, type FederationOptions } from "@greenroom/actors/federation/FederationConfig"
import { Departure } from "@greenroom/actors/runtime/Departure"
import { makeSelfSigned } from "@greenroom/gateway/federation/TlsCredentials"
import { ServerName } from "@greenroom/protocol/Identifiers"
import { listenOnLoopback } from "@greenroom/store/testing/Loopback"
import { Effect, Fiber, Layer } from "effect"
import { TestClock } from "effect/testing"
import { dnsServer } from "../../../packages/actors/test/federation/support/DnsServer.ts"
import { tlsServer } from "../../../packages/actors/test/federation/support/TlsServer.ts"
import { federationConfig, HomeServers } from "../src/HomeServers.ts"
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
  const port = yield* listenOnLoopback(server, "localhost")
  return { name: ServerName.make(`localhost:${port}`), requests }
})

const homeServers = (identity: Partial<IdentityOptionsShape>, federation?: FederationOptions) =>
  HomeServers.layer.pipe(
    Layer.provide(Departure.layer),
    Layer.provide(federation === undefined ? federationConfig : Layer.succeed(FederationConfig, federation)),
    Layer.provide(Layer.succeed(IdentityOptions, toOptions({ identity }, 25).identity))
  )

const post = (name: ServerName, identity: Partial<IdentityOptionsShape>) =>
  HomeServers.use(({ post }) => post(name, "/path", "{}")).pipe(Effect.provide(homeServers(identity)))

const example = ServerName.make("example.org")

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
      assert.strictEqual(error._tag, "HomeServerUnreachable")
      assert.match(error.reason, /^self-signed certificate/)
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

  it.effect("a name that delegates to another is asked there, with a certificate for the other one", () =>
    Effect.gen(function* () {
      let delegated = ""
      const web = yield* tlsServer(({ path }) => ({
        body: path.startsWith("/.well-known")
          ? JSON.stringify({ "m.server": delegated })
          : '{"sub":"@alice:example.org"}'
      }))
      delegated = `localhost:${web.port}`
      const dns = yield* dnsServer({ srv: {}, a: { "example.org": ["127.0.0.1"], localhost: ["127.0.0.1"] } })
      const federation: FederationOptions = {
        dnsServers: [dns.address],
        addressPolicy: "any",
        certificateAuthorities: [web.authority],
        wellKnownPort: web.port
      }
      const asked = HomeServers.use(({ get, post }) => Effect.all([get(example, "/one"), post(example, "/two", "{}")]))
      const [answer, status] = yield* Effect.provide(asked, homeServers({}, federation))
      assert.deepStrictEqual([answer, status], [{ status: 200, text: '{"sub":"@alice:example.org"}' }, 200])
      assert.deepStrictEqual(web.requests.slice(1), [
        { method: "GET", path: "/one", host: delegated, tlsServerName: "localhost" },
        { method: "POST", path: "/two", host: delegated, tlsServerName: "localhost" }
      ])
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

it.effect("a home server whose addresses all stay silent is given up as a whole", () =>
  Effect.gen(function* () {
    const silent = yield* tlsServer(() => undefined)
    const hosts = ["a.example.org", "b.example.org", "c.example.org"]
    const dns = yield* dnsServer({
      srv: {
        "_matrix-fed._tcp.example.org": hosts.map((target, priority) => ({
          target,
          priority,
          weight: 0,
          port: silent.port
        }))
      },
      a: Object.fromEntries(hosts.map((host) => [host, ["127.0.0.1"]]))
    })
    const federation: FederationOptions = {
      dnsServers: [dns.address],
      addressPolicy: "any",
      certificateAuthorities: [silent.authority],
      wellKnownPort: 0
    }
    const asking = yield* HomeServers.use(({ get }) => get(example, "/path")).pipe(
      Effect.flip,
      Effect.provide(homeServers({}, federation)),
      Effect.forkChild
    )
    yield* Effect.promise(async () => {
      while (silent.requests.length === 0) await new Promise(setImmediate)
    })
    yield* TestClock.adjust("30 seconds")
    assert.strictEqual((yield* Fiber.join(asking)).reason, "no answer within 30000 ms")
    assert.lengthOf(silent.requests, 1)
  }).pipe(Effect.scoped)
)
