import { execFile } from "node:child_process"
import * as dgram from "node:dgram"
import * as dns from "node:dns"
import { once } from "node:events"
import * as net from "node:net"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import { Effect } from "effect"
import { nodeOptions } from "../src/testing/TestDns.ts"

/** The code of the error of a promise. */
const codeOf = (promise: Promise<unknown>) =>
  Effect.promise(() =>
    promise.then(
      () => "found",
      (error: NodeJS.ErrnoException) => error.code
    )
  )

describe("tests and the programs that they start", () => {
  it.live("find names of this machine, and ask no DNS server elsewhere", () =>
    Effect.gen(function* () {
      assert.strictEqual(yield* codeOf(dns.promises.lookup("localhost")), "found")
      assert.strictEqual(yield* codeOf(dns.promises.lookup("example.org")), "ENOTFOUND")
      assert.strictEqual(yield* codeOf(promisify(dns.resolve4)("example.org")), "ENOTFOUND")
      const elsewhere = new dns.promises.Resolver({ timeout: 100, tries: 1 })
      elsewhere.setServers(["192.0.2.1"])
      assert.strictEqual(yield* codeOf(elsewhere.resolveSrv("_matrix._tcp.example.org")), "ENOTFOUND")
      const connecting = net.connect({ host: "example.org", port: 80 })
      assert.strictEqual(yield* codeOf(once(connecting, "connect")), "ENOTFOUND")
      const program = 'require("node:dns").lookup("example.org", (error) => console.log(error.code))'
      const { stdout } = yield* Effect.promise(() =>
        promisify(execFile)(process.execPath, ["-e", program], { env: { NODE_OPTIONS: nodeOptions } })
      )
      assert.strictEqual(stdout, "ENOTFOUND\n")
    })
  )

  it.live("ask a DNS server of the test", () =>
    Effect.gen(function* () {
      const server = dgram.createSocket("udp4")
      server.bind(0, "127.0.0.1")
      yield* Effect.addFinalizer(() => Effect.sync(() => server.close()))
      yield* Effect.promise(() => once(server, "listening"))
      const asked = once(server, "message")
      const resolver = new dns.promises.Resolver({ timeout: 100, tries: 1 })
      resolver.setServers([`127.0.0.1:${server.address().port}`])
      assert.strictEqual(yield* codeOf(resolver.resolve4("green.test")), "ETIMEOUT")
      assert.include(String((yield* Effect.promise(() => asked))[0]), "green")
    }).pipe(Effect.scoped)
  )
})
