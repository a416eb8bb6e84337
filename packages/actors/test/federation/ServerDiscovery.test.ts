import { assert, describe, it } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Effect, Layer, Random } from "effect"
import { TestClock } from "effect/testing"
import { FederationConfig, type FederationOptions } from "../../src/federation/FederationConfig.ts"
import { ServerDiscovery, splitHostPort } from "../../src/federation/ServerDiscovery.ts"
import { dnsServer, type Zone } from "./support/DnsServer.ts"
import { tlsServer } from "./support/TlsServer.ts"

const name = "example.org" as ServerName
const service = "_matrix._tcp.example.org"

const discovery = (options: FederationOptions) =>
  Layer.build(
    ServerDiscovery.layer.pipe(Layer.provide(Layer.succeed(FederationConfig, { wellKnownPort: 0, ...options })))
  ).pipe(Effect.map((context) => Effect.runSync(Effect.provide(ServerDiscovery, context))))

const withZone = Effect.fnUntraced(function* (zone: Zone) {
  const dns = yield* dnsServer(zone)
  return { dns, ...(yield* discovery({ dnsServers: [dns.address], addressPolicy: "any" })) }
})

const hosts = { "a.example.org": ["10.0.0.1"], "b.example.org": ["10.0.0.2"], "c.example.org": ["10.0.0.3"] }
const record = (target: string, priority: number, weight = 0, port = 7000) => ({ target, priority, weight, port })

describe("ServerDiscovery", () => {
  it.effect("names with a port, addresses and names of the static map are not looked up", () =>
    Effect.gen(function* () {
      const dns = yield* dnsServer({ srv: {} })
      const { find } = yield* discovery({
        dnsServers: [dns.address],
        addressPolicy: "any",
        staticServers: { "blue.test": "127.0.0.1:9001", "red.test:1": "[::1]:9002", "green.test": "10.0.0.9" }
      })
      const found = (server: string) => find(server as ServerName)
      assert.deepStrictEqual(yield* found("127.0.0.1:8449"), [{ host: "127.0.0.1", port: 8449, tlsServerName: "" }])
      assert.deepStrictEqual(yield* found("10.1.2.3"), [{ host: "10.1.2.3", port: 8448, tlsServerName: "" }])
      assert.deepStrictEqual(yield* found("[::1]"), [{ host: "::1", port: 8448, tlsServerName: "" }])
      assert.deepStrictEqual(yield* found("[fe80::1]:1234"), [{ host: "fe80::1", port: 1234, tlsServerName: "" }])
      assert.deepStrictEqual(yield* found("blue.test"), [
        { host: "127.0.0.1", port: 9001, tlsServerName: "blue.test", isConfigured: true }
      ])
      assert.deepStrictEqual(yield* found("red.test:1"), [
        { host: "::1", port: 9002, tlsServerName: "red.test", isConfigured: true }
      ])
      assert.deepStrictEqual(yield* found("green.test"), [
        { host: "10.0.0.9", port: 8448, tlsServerName: "green.test", isConfigured: true }
      ])
      assert.deepStrictEqual(dns.questions, [])
    })
  )

  it.effect("an explicit port rules out SRV records", () =>
    Effect.gen(function* () {
      const zone = { srv: { [service]: [record("a.example.org", 1)] }, a: { ...hosts, "example.org": ["10.0.0.7"] } }
      const { dns, find } = yield* withZone(zone)
      assert.deepStrictEqual(yield* find("example.org:443" as ServerName), [
        { host: "10.0.0.7", port: 443, tlsServerName: "example.org" }
      ])
      assert.notInclude(dns.questions, `SRV ${service}`)
    })
  )

  it.effect("SRV records are tried by priority; the certificate is that of the server name", () =>
    Effect.gen(function* () {
      const { find } = yield* withZone({
        srv: { [service]: [record("c.example.org", 30), record("a.example.org", 10), record("b.example.org", 20)] },
        a: { ...hosts, "a.example.org": ["10.0.0.1", "10.0.1.1"] },
        aaaa: { "b.example.org": ["fd00::2"] }
      })
      assert.deepStrictEqual(yield* find(name), [
        { host: "10.0.0.1", port: 7000, tlsServerName: "example.org" },
        { host: "10.0.1.1", port: 7000, tlsServerName: "example.org" },
        { host: "10.0.0.2", port: 7000, tlsServerName: "example.org" },
        { host: "fd00::2", port: 7000, tlsServerName: "example.org" },
        { host: "10.0.0.3", port: 7000, tlsServerName: "example.org" }
      ])
    })
  )

  it.effect("the records of the former service are found though DNS fails for the current one", () =>
    Effect.gen(function* () {
      const srv = { [service]: [record("a.example.org", 1)] }
      const { find } = yield* withZone({ srv, a: hosts, failing: ["_matrix-fed._tcp.example.org"] })
      assert.deepStrictEqual(yield* find(name), [{ host: "10.0.0.1", port: 7000, tlsServerName: name }])
    })
  )

  it.effect("within a priority the heavier record is first more often", () =>
    Effect.gen(function* () {
      const { find } = yield* withZone({
        srv: {
          [service]: [record("a.example.org", 1, 10), record("b.example.org", 1, 30), record("c.example.org", 1, 0)]
        },
        a: hosts
      })
      const first = new Map<string, number>()
      for (let i = 0; i < 400; i++) {
        const targets = yield* find(name)
        assert.strictEqual(targets.length, 3)
        first.set(targets[0]!.host, (first.get(targets[0]!.host) ?? 0) + 1)
      }
      const [light = 0, heavy = 0, none = 0] = ["10.0.0.1", "10.0.0.2", "10.0.0.3"].map((host) => first.get(host))
      assert.isAbove(heavy, 240)
      assert.isBelow(heavy, 360)
      assert.isAbove(light, 40)
      assert.isBelow(none, 40)
    }).pipe(Random.withSeed("weights"))
  )

  it.effect("without SRV records the name itself is contacted at 8448", () =>
    Effect.gen(function* () {
      const { find } = yield* withZone({ srv: {}, a: { "example.org": ["10.0.0.7"] } })
      assert.deepStrictEqual(yield* find(name), [{ host: "10.0.0.7", port: 8448, tlsServerName: "example.org" }])
      const missing = yield* Effect.flip(find("nowhere.org" as ServerName))
      assert.strictEqual(missing._tag, "RemoteUnreachable")
    })
  )

  it.effect("a record whose target is '.' says that there is no home server", () =>
    Effect.gen(function* () {
      const { find } = yield* withZone({ srv: { [service]: [record("", 0)] }, a: { "example.org": ["10.0.0.7"] } })
      assert.strictEqual((yield* Effect.flip(find(name)))._tag, "RemoteUnreachable")
    })
  )

  it.effect("DNS is asked once in a while, and anew when no target could be reached", () =>
    Effect.gen(function* () {
      const srv: Zone["srv"] = { [service]: [record("a.example.org", 1)] }
      const { dns, find, forget } = yield* withZone({ srv, a: hosts })
      yield* Effect.all([find(name), find(name), find(name)], { concurrency: "unbounded" })
      const asked = () => dns.questions.filter((question) => question === `SRV ${service}`).length
      assert.strictEqual(asked(), 1)
      srv[service] = [record("b.example.org", 1)]
      assert.strictEqual((yield* find(name))[0]?.host, "10.0.0.1")
      yield* TestClock.adjust("5 minutes")
      assert.strictEqual((yield* find(name))[0]?.host, "10.0.0.2")
      srv[service] = [record("c.example.org", 1)]
      yield* forget(name)
      assert.strictEqual((yield* find(name))[0]?.host, "10.0.0.3")
      assert.strictEqual(asked(), 3)
    })
  )

  it.effect("private addresses and port 0 are no targets, unless the configuration names them", () =>
    Effect.gen(function* () {
      const dns = yield* dnsServer({
        srv: {
          [service]: [
            record("inside.example.org", 1),
            record("both.example.org", 2),
            record("zero.example.org", 3, 0, 0)
          ]
        },
        a: {
          "inside.example.org": ["10.0.0.1", "127.0.0.1", "169.254.169.254"],
          "both.example.org": ["192.168.0.1", "203.0.114.1"],
          "zero.example.org": ["203.0.114.2"],
          "private.org": ["172.16.0.1"]
        },
        aaaa: { "inside.example.org": ["::1", "fd00::1"], "private.org": ["fe80::1"] }
      })
      const { find } = yield* discovery({
        dnsServers: [dns.address],
        staticServers: { "blue.test": "10.0.0.9:9001" }
      })
      const hostsOf = (server: string) =>
        Effect.match(find(server as ServerName), {
          onFailure: ({ reason }) => reason,
          onSuccess: (targets) => targets.map(({ host }) => host)
        })
      assert.deepStrictEqual(yield* hostsOf("example.org"), ["203.0.114.1"])
      assert.deepStrictEqual(yield* hostsOf("blue.test"), ["10.0.0.9"])
      for (const server of ["private.org", "private.org:443", "127.0.0.1:5432", "[::1]:5432", "10.0.0.1"]) {
        assert.strictEqual(yield* hostsOf(server), "the server has no address that may be connected to", server)
      }
    })
  )

  it.effect("servers on this machine are targets if certificates are not verified", () =>
    Effect.gen(function* () {
      const { find } = yield* discovery({ verifyCertificates: false })
      assert.strictEqual((yield* find("127.0.0.1:8449" as ServerName)).length, 1)
      assert.strictEqual((yield* Effect.flip(find("10.0.0.1" as ServerName)))._tag, "RemoteUnreachable")
    })
  )

  it.effect("a name leads where its .well-known document says, until that has expired", () =>
    Effect.gen(function* () {
      let body = JSON.stringify({ "m.server": "matrix.example.org:7443" })
      let headers: { readonly [name: string]: string } = { "cache-control": "max-age=600" }
      const web = yield* tlsServer(() => ({ body, headers }))
      const dns = yield* dnsServer({
        srv: { "_matrix-fed._tcp.b.example.org": [record("a.example.org", 1, 0, 7001)] },
        a: { ...hosts, "example.org": ["127.0.0.1"], "matrix.example.org": ["10.0.0.9"] }
      })
      const { find } = yield* discovery({
        dnsServers: [dns.address],
        addressPolicy: "any",
        certificateAuthorities: [web.authority],
        wellKnownPort: web.port
      })
      const matrix = { tlsServerName: "matrix.example.org", hostHeader: "matrix.example.org:7443" }
      for (let i = 0; i < 3; i++) {
        assert.deepStrictEqual(yield* find(name), [{ host: "10.0.0.9", port: 7443, ...matrix }])
      }
      assert.deepStrictEqual(
        web.requests.map(({ path }) => path),
        ["/.well-known/matrix/server"]
      )
      body = JSON.stringify({ "m.server": "b.example.org" })
      headers = {}
      yield* TestClock.adjust("11 minutes")
      // If the delegated name has no port, its SRV records count.
      assert.deepStrictEqual(yield* find(name), [
        { host: "10.0.0.1", port: 7001, tlsServerName: "b.example.org", hostHeader: "b.example.org" }
      ])
      body = JSON.stringify({ "m.server": "10.0.0.8:1" })
      headers = { "cache-control": "no-cache, no-store, max-age=0" }
      yield* TestClock.adjust("25 hours")
      assert.strictEqual((yield* find(name))[0]?.host, "10.0.0.8")
      body = JSON.stringify({ "m.server": "not a name" })
      yield* TestClock.adjust("6 minutes")
      assert.deepStrictEqual(yield* find(name), [{ host: "127.0.0.1", port: 8448, tlsServerName: "example.org" }])
    })
  )

  it.effect("the .well-known document is read from the next address of a host where the first does not answer", () =>
    Effect.gen(function* () {
      const web = yield* tlsServer(() => ({ body: JSON.stringify({ "m.server": "10.0.0.8:7443" }) }))
      const dns = yield* dnsServer({ srv: {}, a: { "example.org": ["127.0.0.2", "127.0.0.1"] } })
      const { find } = yield* discovery({
        dnsServers: [dns.address],
        addressPolicy: "any",
        certificateAuthorities: [web.authority],
        wellKnownPort: web.port
      })
      assert.strictEqual((yield* find(name))[0]?.host, "10.0.0.8")
    })
  )

  it.effect("a name that no URL can have as its host has no .well-known document", () =>
    Effect.gen(function* () {
      const names = ["99999999999999999999", "1.2.3.456", "xn--a"]
      const dns = yield* dnsServer({ srv: {}, a: Object.fromEntries(names.map((name) => [name, ["10.0.0.7"]])) })
      const { find } = yield* discovery({ dnsServers: [dns.address], addressPolicy: "any", wellKnownPort: 443 })
      for (const name of names) {
        assert.deepStrictEqual(yield* find(name as ServerName), [{ host: "10.0.0.7", port: 8448, tlsServerName: name }])
      }
    })
  )

  it.effect("a .well-known document that is answered by a switch of protocols does not exist", () =>
    Effect.gen(function* () {
      const web = yield* tlsServer(() => ({
        status: 101,
        body: "",
        headers: { connection: "Upgrade", upgrade: "other" }
      }))
      const dns = yield* dnsServer({ srv: {}, a: { "example.org": ["127.0.0.1"] } })
      const { find } = yield* discovery({
        dnsServers: [dns.address],
        addressPolicy: "any",
        certificateAuthorities: [web.authority],
        wellKnownPort: web.port
      })
      assert.deepStrictEqual(yield* find(name), [{ host: "127.0.0.1", port: 8448, tlsServerName: "example.org" }])
      assert.isNotEmpty(web.requests)
    })
  )

  it.effect("redirects of the .well-known document are followed over TLS, in bounded number", () =>
    Effect.gen(function* () {
      const web = yield* tlsServer(({ path }) =>
        path === "/elsewhere"
          ? { body: JSON.stringify({ "m.server": "10.0.0.9:7443" }) }
          : { status: 302, body: "", headers: { location: to } }
      )
      let to = "/elsewhere"
      const dns = yield* dnsServer({ srv: {}, a: { "example.org": ["127.0.0.1"], localhost: ["127.0.0.1"] } })
      const options = {
        dnsServers: [dns.address],
        addressPolicy: "any" as const,
        certificateAuthorities: [web.authority],
        wellKnownPort: web.port
      }
      const target = { host: "10.0.0.9", port: 7443, tlsServerName: "", hostHeader: "10.0.0.9:7443" }
      assert.deepStrictEqual(yield* (yield* discovery(options)).find(name), [target])
      const itself = [{ host: "127.0.0.1", port: 8448, tlsServerName: "example.org" }]
      for (const elsewhere of ["http://example.org/elsewhere", "/.well-known/matrix/server"]) {
        to = elsewhere
        assert.deepStrictEqual(yield* (yield* discovery(options)).find(name), itself)
      }
      assert.isBelow(web.requests.length, 12)
    })
  )

  it("splits a host and a port", () => {
    assert.deepStrictEqual(splitHostPort("a.b:1"), { host: "a.b", port: 1 })
    assert.deepStrictEqual(splitHostPort("a.b"), { host: "a.b", port: undefined })
    assert.deepStrictEqual(splitHostPort("[::1]:1"), { host: "::1", port: 1 })
    assert.deepStrictEqual(splitHostPort("[::1]"), { host: "::1", port: undefined })
  })
})
