import { assert, describe, it } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Effect, Layer } from "effect"
import { FederationConfig, type FederationOptions } from "../../src/federation/FederationConfig.ts"
import { FederationTransport } from "../../src/federation/FederationTransport.ts"
import { ServerDiscovery } from "../../src/federation/ServerDiscovery.ts"
import { dnsServer } from "./support/DnsServer.ts"
import { type Handler, tlsServer } from "./support/TlsServer.ts"

const name = "example.org" as ServerName
const service = "_matrix._tcp.example.org"

const transport = (options: FederationOptions) =>
  Layer.build(
    FederationTransport.layer.pipe(
      Layer.provide(ServerDiscovery.layer),
      Layer.provide(Layer.succeed(FederationConfig, options))
    )
  ).pipe(Effect.map((context) => Effect.runSync(Effect.provide(FederationTransport, context))))

const get = (destination: ServerName, uri = "/x", maxBytes = 1_000, timeout = 20_000) =>
  ({ destination, method: "GET", uri, maxBytes, timeout }) as const

const hello: Handler = () => ({ body: "hello" })

/** An address at which nothing listens: that of a closed server. */
const deadPort = Effect.scoped(Effect.map(tlsServer(hello), ({ port }) => port))

describe("FederationTransport", () => {
  it.live(
    "a target that cannot be reached is passed over for the next, with the name of the server in TLS and HTTP",
    () =>
      Effect.gen(function* () {
        const server = yield* tlsServer(hello)
        const dns = yield* dnsServer({
          srv: {
            [service]: [
              { target: "dead.example.org", priority: 1, weight: 0, port: yield* deadPort },
              { target: "nowhere.example.org", priority: 2, weight: 0, port: 1 },
              { target: "live.example.org", priority: 3, weight: 0, port: server.port }
            ]
          },
          a: { "dead.example.org": ["127.0.0.1"], "live.example.org": ["127.0.0.1"] }
        })
        const { request } = yield* transport({
          addressPolicy: "loopback",
          dnsServers: [dns.address],
          certificateAuthorities: [server.authority]
        })
        const answer = yield* request(get(name, "/path?q=1"))
        assert.strictEqual(answer.body.toString(), "hello")
        assert.deepStrictEqual(server.requests, [
          { method: "GET", path: "/path?q=1", host: "example.org", tlsServerName: "example.org" }
        ])
      })
  )

  it.live("a request fails at once if the answer switches protocols", () =>
    Effect.gen(function* () {
      const headers = { connection: "Upgrade", upgrade: "other" }
      const server = yield* tlsServer(() => ({ status: 101, body: "", headers }))
      const staticServers = { [name]: `127.0.0.1:${server.port}` }
      const { request } = yield* transport({ staticServers, verifyCertificates: false })
      const { reason } = yield* Effect.flip(request(get(name)))
      assert.strictEqual(reason, "the answer switches protocols")
    })
  )

  it.live("when the last target fails, DNS is asked anew for the next request", () =>
    Effect.gen(function* () {
      const server = yield* tlsServer(hello)
      const at = (port: number) => [{ target: "a.example.org", priority: 1, weight: 0, port }]
      const zone = { srv: { [service]: at(yield* deadPort) }, a: { "a.example.org": ["127.0.0.1"] } }
      const dns = yield* dnsServer(zone)
      const { request } = yield* transport({ dnsServers: [dns.address], verifyCertificates: false })
      assert.strictEqual((yield* Effect.flip(request(get(name))))._tag, "RemoteUnreachable")
      zone.srv[service] = at(server.port)
      assert.strictEqual((yield* request(get(name))).status, 200)
    })
  )

  it.live("a certificate must be valid and of the server's name, unless that is switched off", () =>
    Effect.gen(function* () {
      const server = yield* tlsServer(hello)
      const here = `127.0.0.1:${server.port}`
      const staticServers = { "example.org": here, "other.org": here }
      const trusting = yield* transport({
        addressPolicy: "loopback",
        staticServers,
        certificateAuthorities: [server.authority]
      })
      const strict = yield* transport({ staticServers })
      const careless = yield* transport({ staticServers, verifyCertificates: false })
      const other = "other.org" as ServerName
      assert.strictEqual((yield* trusting.request(get(name))).status, 200)
      assert.strictEqual((yield* trusting.request(get(here as ServerName))).status, 200)
      assert.strictEqual((yield* Effect.flip(trusting.request(get(other))))._tag, "RemoteUnreachable")
      assert.strictEqual((yield* Effect.flip(strict.request(get(name))))._tag, "RemoteUnreachable")
      assert.strictEqual((yield* careless.request(get(other))).status, 200)
    })
  )

  it.live(
    "no connection is made to loopback addresses, whichever name resolves to them, unless the configuration allows it",
    () =>
      Effect.gen(function* () {
        const server = yield* tlsServer(hello)
        const srv = { [service]: [{ target: "a.example.org", priority: 1, weight: 0, port: server.port }] }
        const dns = yield* dnsServer({ srv, a: { "a.example.org": ["127.0.0.1"] } })
        const certificateAuthorities = [server.authority]
        const byDns = yield* transport({ certificateAuthorities, dnsServers: [dns.address] })
        const bySystem = yield* transport({ certificateAuthorities })
        const refusal = (asked: ReturnType<typeof byDns.request>) => Effect.map(Effect.flip(asked), ({ _tag }) => _tag)
        assert.strictEqual(yield* refusal(byDns.request(get(name))), "RemoteUnreachable")
        for (const host of ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost"]) {
          const asked = bySystem.request(get(`${host}:${server.port}` as ServerName))
          assert.strictEqual(yield* refusal(asked), "RemoteUnreachable", host)
        }
        assert.strictEqual(server.state.connections, 0)
        const configured = yield* transport({
          certificateAuthorities,
          staticServers: { "example.org": `localhost:${server.port}` }
        })
        assert.strictEqual((yield* configured.request(get(name))).status, 200)
      })
  )

  it.live("connections are used again, and made anew where the other side closed them", () =>
    Effect.gen(function* () {
      const server = yield* tlsServer(hello)
      const { request } = yield* transport({ verifyCertificates: false })
      const here = `127.0.0.1:${server.port}` as ServerName
      for (let i = 0; i < 3; i++) assert.strictEqual((yield* request(get(here))).status, 200)
      assert.strictEqual(server.state.connections, 1)
      yield* server.drop
      assert.strictEqual((yield* request(get(here))).status, 200)
      assert.strictEqual(server.state.connections, 2)
    })
  )

  it.live("where a connection that is used again stays silent, a request that may be repeated is, over a new one", () =>
    Effect.gen(function* () {
      let isStopped = false
      const answer: Handler = (...seen) => (isStopped && server.state.connections === 1 ? undefined : hello(...seen))
      const server = yield* tlsServer(answer)
      const { request } = yield* transport({ verifyCertificates: false, silenceTimeout: 100 })
      const ask = { ...get(`127.0.0.1:${server.port}` as ServerName), mayRepeat: true }
      assert.strictEqual((yield* request(ask)).status, 200)
      isStopped = true
      assert.strictEqual((yield* request(ask)).status, 200)
      assert.deepStrictEqual([server.state.connections, server.requests.length], [2, 3])
    })
  )

  it.live("after a connection that stayed silent no idle one to the same place is used again", () =>
    Effect.gen(function* () {
      let isStopped = false
      const answer: Handler = (...seen) => (isStopped && server.state.connections <= 2 ? undefined : hello(...seen))
      const server = yield* tlsServer(answer)
      const { request } = yield* transport({ verifyCertificates: false, silenceTimeout: 100 })
      const ask = get(`127.0.0.1:${server.port}` as ServerName)
      yield* Effect.all([request(ask), request(ask)], { concurrency: 2 })
      assert.strictEqual(server.state.connections, 2)
      isStopped = true
      const unanswered = yield* Effect.flip(request({ ...ask, uri: "/once", timeout: 500 }))
      assert.strictEqual(unanswered._tag, "RemoteUnreachable")
      assert.strictEqual((yield* request(ask)).status, 200)
      assert.strictEqual(server.requests.filter(({ path }) => path === "/once").length, 1)
    })
  )

  it.live("an IPv6 address is a server name", () =>
    Effect.gen(function* () {
      const server = yield* tlsServer(hello, "::1")
      const { request } = yield* transport({ addressPolicy: "loopback", certificateAuthorities: [server.authority] })
      assert.strictEqual((yield* request(get(`[::1]:${server.port}` as ServerName))).status, 200)
      assert.strictEqual(server.requests[0]?.host, `[::1]:${server.port}`)
    })
  )

  it.live("an answer that is too large is not read, with and without a stated length", () =>
    Effect.gen(function* () {
      const big = Buffer.alloc(200_000)
      const server = yield* tlsServer(({ path }) => ({
        body: big,
        headers: path === "/stated" ? { "content-length": String(big.length) } : {}
      }))
      const { request } = yield* transport({ verifyCertificates: false })
      const here = `127.0.0.1:${server.port}` as ServerName
      for (const path of ["/stated", "/chunked"]) {
        assert.strictEqual((yield* Effect.flip(request(get(here, path))))._tag, "RemoteInvalid")
      }
      assert.strictEqual((yield* request(get(here, "/", 200_000))).body.length, 200_000)
    })
  )

  it.live("a request that waits for one of our connections says nothing about the server, and files have others", () =>
    Effect.gen(function* () {
      const server = yield* tlsServer(({ path }) => ({ body: "hello", isUnfinished: path === "/held" }))
      const { open, request } = yield* transport({ verifyCertificates: false })
      const ask = (uri: string) => get(`127.0.0.1:${server.port}` as ServerName, uri, 1_000, 500)
      for (let held = 0; held < 8; held++) yield* open(ask("/held"))
      const error = yield* Effect.flip(request(ask("/")))
      assert.deepInclude(error, { _tag: "RemoteUnreachable", isOwnLimit: true })
      yield* open({ ...ask("/"), isFile: true })
    })
  )

  it.live("a server that does not answer is given up", () =>
    Effect.gen(function* () {
      const server = yield* tlsServer(() => undefined)
      const { request } = yield* transport({ verifyCertificates: false, silenceTimeout: 50 })
      const ask = get(`127.0.0.1:${server.port}` as ServerName, "/", 1_000, 500)
      const error = yield* Effect.flip(request({ ...ask, mayRepeat: true }))
      assert.strictEqual(error._tag, "RemoteUnreachable")
      assert.strictEqual(server.requests.length, 1)
    })
  )
})
