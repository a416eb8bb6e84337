import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import type { Sources } from "@greenroom/gateway/SettingSources"
import { Effect, FileSystem, Redacted } from "effect"
import { readConfig, toServerOptions } from "../src/ReadConfig.ts"

/** The options from a TOML file and the environment, in a new data directory. */
const read = (written: { readonly toml?: string; readonly environment?: Sources["environment"] }) =>
  Effect.gen(function* () {
    const fileSystem = yield* FileSystem.FileSystem
    const directory = yield* fileSystem.makeTempDirectoryScoped()
    const configFile = `${directory}/identity.toml`
    if (written.toml !== undefined) yield* fileSystem.writeFileString(configFile, written.toml)
    const config = yield* readConfig({
      options: { dataDir: `${directory}/data` },
      configFile: written.toml === undefined ? undefined : configFile,
      environment: written.environment ?? {}
    })
    return yield* toServerOptions(config)
  }).pipe(
    Effect.mapError(({ message }) => message),
    Effect.scoped,
    Effect.provide(NodeServices.layer)
  )

const key = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo"

describe("ReadConfig", () => {
  it.effect("the default server sends no messages and trusts no server", () =>
    Effect.gen(function* () {
      const options = yield* read({})
      assert.isUndefined(options.smtp)
      assert.isUndefined(options.sms)
      assert.deepStrictEqual(options.identity.peers, [])
      assert.strictEqual(options.identity.publicUrl, "http://127.0.0.1:8090")
      assert.strictEqual(options.identity.codeLifetime, 600_000)
    })
  )

  it.effect("mail, text messages, peers and home servers come from the file and the environment", () =>
    Effect.gen(function* () {
      const options = yield* read({
        toml: `
          server_name = "id.example.org"
          public_url = "https://id.example.org/"
          peers = [
            "id2.example.org https://id2.example.org/ ed25519:a ${key}",
            "id2.example.org https://id2.example.org/ ed25519:b ${key}",
          ]
          home_servers = ["example.org http://127.0.0.1:8008"]
          [smtp]
          host = "mail.example.org"
          port = 25
          security = "tls"
          user = "identity"
          from = "Example <noreply@example.org>"
          [sms]
          url = "https://sms.example.org/send?a=b"
          [rate_limits]
          lookups = "10/1h"
          messages = "off"
        `,
        environment: { GREENROOM_IDENTITY_SMTP_PASSWORD: "hush", GREENROOM_IDENTITY_SMTP_PORT: "465" }
      })
      assert.strictEqual(options.identity.publicUrl, "https://id.example.org")
      const { password, ...smtp } = options.smtp!
      assert.strictEqual(Redacted.value(password!), "hush")
      assert.deepStrictEqual(smtp, {
        host: "mail.example.org",
        port: 465,
        security: "tls",
        user: "identity",
        from: { name: "Example", address: "noreply@example.org" },
        verifyCertificate: true
      })
      assert.strictEqual(options.sms?.url, "https://sms.example.org/send?a=b")
      assert.strictEqual(options.identity.peers.length, 1)
      assert.deepStrictEqual([...options.identity.peers[0]!.keys.keys()], ["ed25519:a", "ed25519:b"])
      assert.strictEqual(options.identity.peers[0]!.url, "https://id2.example.org")
      assert.strictEqual(options.identity.homeServers.get("example.org"), "http://127.0.0.1:8008")
      assert.deepStrictEqual(options.rates.lookups, { limit: 10, window: 3_600_000 })
      assert.strictEqual(options.rates.messages, "off")
    })
  )

  it.effect("errors have the name of the setting as the operator wrote it, and no secrets", () =>
    Effect.gen(function* () {
      const refused = (toml: string) => Effect.flip(read({ toml }))
      assert.match(
        yield* refused("[smtp]\nsecurity = 'none at all'"),
        /^smtp.security in .* must be starttls, tls or none/
      )
      assert.match(yield* refused("[smtp]\nuser = 'a'"), /smtp.user and smtp.password must be given together/)
      assert.match(yield* refused("[smtp]\nfrom = 'a@b.de\\nBcc: c@d.de'"), /^smtp.from in .* must be an address/)
      assert.match(yield* refused("[smtp]\nhots = 'a'"), /^smtp.hots in .* is not a setting/)
      assert.match(yield* refused("peers = ['id2.example.org']"), /^peers in .* must be a list of texts such as/)
      const own = `server_name = "id.example.org"\npeers = ["id.example.org http://a ed25519:a ${key}"]`
      assert.match(yield* refused(own), /is not the name of another server/)
      const url = yield* refused('database_url = "mysql://user:hush@localhost/a"')
      assert.match(url, /^database_url in .* must be a URL/)
      assert.notInclude(url, "hush")
    })
  )
})
