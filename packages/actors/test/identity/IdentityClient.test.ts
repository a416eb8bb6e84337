import { assert, describe, it } from "@effect/vitest"
import { ServerName, type UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { encodeBase64, exportVerifyKey, generateSigningKey, signJson, verifyKeyOf } from "@greenroom/room/Signing"
import { serveHttp } from "@greenroom/store/testing/Loopback"
import { Effect, Layer, Option, Result } from "effect"
import { FederationConfig, type FederationOptions } from "../../src/federation/FederationConfig.ts"
import { IdentityClient } from "../../src/identity/IdentityClient.ts"
import { Departure } from "../../src/runtime/Departure.ts"
import { HomeServerConfig } from "../../src/runtime/HomeServerConfig.ts"
import { tlsServer } from "../federation/support/TlsServer.ts"

const alice = { medium: "email", address: "alice@example.org" } as const
const mxid = "@alice:green.test" as UserId
const key = generateSigningKey(ServerName.make("id.test"), "ed25519:1")
const otherKey = generateSigningKey(ServerName.make("id.test"), "ed25519:1")

const association = { ...alice, mxid, ts: 1, not_before: 1, not_after: 9_000_000_000_000 }
const signedBy = (object: JsonObject, by = key) => JSON.stringify(Result.getOrThrow(signJson(object, by)))

interface Said {
  readonly status: number
  readonly text: string
}

/** An identity server that publishes its key and says otherwise what the test wants it to say. */
const identityServer = Effect.gen(function* () {
  let said: Said = { status: 200, text: "{}" }
  const url = yield* serveHttp((request, response) => {
    const isKey = request.url?.includes("/pubkey/ed25519:1") === true
    const publicKey = JSON.stringify({ public_key: encodeBase64(exportVerifyKey(verifyKeyOf(key))) })
    response
      .writeHead(isKey ? 200 : said.status, { location: "http://127.0.0.1:1/" })
      .end(isKey ? publicKey : said.text)
  })
  const says = (text: string, status = 200) => {
    said = { status, text }
  }
  return { url, says }
})

interface More {
  readonly anyIdentityServer?: boolean
  readonly federation?: FederationOptions
}

const withClient = <A, E>(
  use: (client: IdentityClient["Service"]) => Effect.Effect<A, E>,
  servers: ReadonlyArray<string>,
  { federation = {}, ...more }: More = {}
) =>
  Effect.provide(
    Effect.flatMap(IdentityClient, use),
    IdentityClient.layer.pipe(
      Layer.provide(
        Layer.succeed(HomeServerConfig, {
          serverName: ServerName.make("green.test"),
          dataDir: "unused",
          identityServers: servers,
          ...more
        })
      ),
      Layer.provide([Layer.succeed(FederationConfig, federation), Departure.layer])
    )
  )

describe("IdentityClient", () => {
  it.live("believes an association that the server has signed, and nothing else", () =>
    Effect.gen(function* () {
      const { says, url } = yield* identityServer
      yield* withClient(
        (client) =>
          Effect.gen(function* () {
            const server = yield* client.trusted(undefined)
            says(signedBy(association))
            assert.deepStrictEqual(yield* client.lookup(server, alice), Option.some(mxid))
            says("{}")
            assert.isTrue(Option.isNone(yield* client.lookup(server, alice)))
            const lies = [
              JSON.stringify({ ...association, signatures: {} }),
              signedBy(association, otherKey),
              signedBy(association).replace("@alice", "@mallory"),
              signedBy({ ...association, address: "mallory@example.org" }),
              signedBy({ ...association, not_after: 2 }),
              signedBy({ ...association, mxid: "alice" }),
              `{"a":"${"x".repeat(300_000)}"}`,
              "[]",
              "<html>"
            ]
            for (const lie of lies) {
              says(lie)
              const error = yield* Effect.flip(client.lookup(server, alice))
              assert.strictEqual(error._tag, "M_UNKNOWN", lie.slice(0, 200))
            }
          }),
        [url]
      )
    })
  )

  it.live("reports refusals and failures of the server to the user", () =>
    Effect.gen(function* () {
      const { says, url } = yield* identityServer
      yield* withClient(
        (client) =>
          Effect.gen(function* () {
            const server = yield* client.trusted(new URL(url).host)
            const refused = (status: number, errcode: string, more: object = {}) => {
              says(JSON.stringify({ errcode, error: "No", ...more }), status)
              return Effect.flip(client.validated(server, { sid: "1", client_secret: "s" }))
            }
            assert.strictEqual((yield* refused(400, "M_SESSION_NOT_VALIDATED"))._tag, "M_SESSION_NOT_VALIDATED")
            assert.strictEqual((yield* refused(403, "M_FORBIDDEN"))._tag, "M_FORBIDDEN")
            const limited = yield* refused(429, "M_LIMIT_EXCEEDED", { retry_after_ms: 1.5 })
            assert.deepInclude(limited, { _tag: "M_LIMIT_EXCEEDED", retry_after_ms: 2 })
            const endless = yield* refused(429, "M_LIMIT_EXCEEDED", { retry_after_ms: 1e300 })
            assert.deepInclude(endless, { _tag: "M_LIMIT_EXCEEDED", retry_after_ms: 3_600_000 })
            assert.strictEqual((yield* refused(500, "toString"))._tag, "M_UNKNOWN")
            assert.strictEqual((yield* refused(302, "M_MOVED"))._tag, "M_UNKNOWN")
            const gone = yield* client.trusted("127.0.0.1:1")
            assert.strictEqual((yield* Effect.flip(client.lookup(gone, alice)))._tag, "M_UNKNOWN")
          }),
        [url, "http://127.0.0.1:1"]
      )
    })
  )

  it.live("asks no server that the operator does not trust", () =>
    Effect.gen(function* () {
      const named = (name: string | undefined, ...servers: ReadonlyArray<string>) =>
        withClient((client) => Effect.map(Effect.flip(client.trusted(name)), ({ _tag }) => _tag), servers)
      assert.strictEqual(yield* named(undefined), "M_UNKNOWN")
      for (const name of ["evil.example", "id.test@evil.example", "http://id.test", "id.test/x", ""]) {
        assert.strictEqual(yield* named(name, "https://id.test"), "M_SERVER_NOT_TRUSTED", name)
      }
    })
  )

  it.live("asks any server at a public address that a user names, where the operator allows that", () =>
    Effect.gen(function* () {
      const pepper = JSON.stringify({ lookup_pepper: "x", algorithms: ["sha256"] })
      const identity = yield* tlsServer(({ path }) => ({
        body: path.includes("hash_details") ? pepper : '{"mappings":{}}'
      }))
      const named = (name: string, more: More = {}) =>
        withClient(
          (client) =>
            Effect.result(
              Effect.flatMap(client.named(name), (server) => client.lookupHashed(server, [alice], "token"))
            ),
          ["https://id.test"],
          { anyIdentityServer: true, ...more }
        )
      const here = { certificateAuthorities: [identity.authority], addressPolicy: "loopback" } as const
      const own = `127.0.0.1:${identity.port}`
      assert.deepStrictEqual(yield* named(own, { federation: here }), Result.succeed([undefined]))
      const asked = identity.requests.length
      assert.isAbove(asked, 0)
      for (const name of [
        own,
        `127.1:${identity.port}`,
        "0x7f.1",
        "[::1]",
        "10.0.0.1",
        "[::ffff:127.0.0.1]",
        "[:::]"
      ]) {
        const refused = yield* named(name, { federation: { certificateAuthorities: [identity.authority] } })
        assert.strictEqual(Result.isFailure(refused) && refused.failure._tag, "M_FORBIDDEN", name)
      }
      const byName = yield* named(`localhost:${identity.port}`, { federation: { ...here, addressPolicy: "public" } })
      assert.strictEqual(Result.isFailure(byName) && byName.failure._tag, "M_UNKNOWN", "a name may resolve to anything")
      const offByDefault = yield* named(own, { federation: here, anyIdentityServer: false })
      assert.strictEqual(Result.isFailure(offByDefault) && offByDefault.failure._tag, "M_SERVER_NOT_TRUSTED")
      assert.lengthOf(identity.requests, asked)
      const trusted = yield* withClient((client) => Effect.flip(client.trusted(own)), ["https://id.test"], {
        anyIdentityServer: true
      })
      assert.strictEqual(trusted._tag, "M_SERVER_NOT_TRUSTED", "it is not trusted about the addresses of accounts")
    })
  )
})
