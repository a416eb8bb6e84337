import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { Effect, FileSystem, Redacted } from "effect"
import { readConfig, type Sources } from "../src/ConfigSources.ts"
import { toLoginOptions } from "../src/LoginSettings.ts"
import { toMediaOptions } from "../src/MediaSettings.ts"

/** The configuration from a TOML file, the environment and options, in a data directory of its own. */
const read = (written: {
  readonly toml?: string
  readonly environment?: Sources["environment"]
  readonly options?: Sources["options"]
}) =>
  Effect.gen(function* () {
    const fileSystem = yield* FileSystem.FileSystem
    const directory = yield* fileSystem.makeTempDirectoryScoped()
    const configFile = `${directory}/greenroom.toml`
    if (written.toml !== undefined) yield* fileSystem.writeFileString(configFile, written.toml)
    return yield* readConfig({
      options: { dataDir: `${directory}/data`, ...written.options },
      configFile: written.toml === undefined ? undefined : configFile,
      environment: written.environment ?? {}
    }).pipe(Effect.mapError((error) => error.message.replaceAll(directory, "DIR")))
  }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))

const refused = (written: Parameters<typeof read>[0]) => Effect.map(Effect.flip(read(written)), String)

describe("ConfigSources", () => {
  it.effect("the default is a server named localhost on port 8008", () =>
    Effect.gen(function* () {
      const config = yield* read({})
      assert.strictEqual(config.serverName, "localhost")
      assert.strictEqual(config.port, 8008)
      assert.strictEqual(config.host, "127.0.0.1")
      assert.isTrue(config.enableRegistration)
      assert.isUndefined(config.databaseUrl)
    })
  )

  it.effect("options override the environment, the environment the file, and the file the default", () =>
    Effect.gen(function* () {
      const config = yield* read({
        toml: 'server_name = "file.example"\nport = 1\nhost = "::1"\n',
        environment: { GREENROOM_PORT: "2", GREENROOM_SERVER_NAME: "environment.example", GREENROOM_HOST: "" },
        options: { port: "3" }
      })
      assert.strictEqual(config.port, 3)
      assert.strictEqual(config.serverName, "environment.example")
      assert.strictEqual(config.host, "::1")
    })
  )

  it.effect("settings of the identity server in the environment are ignored, and addresses may be server names", () =>
    Effect.gen(function* () {
      const config = yield* read({
        environment: { GREENROOM_IDENTITY_SMTP_HOST: "mail.example", GREENROOM_IDENTITY_CONFIG: "/none.toml" },
        options: { serverName: "10.0.0.1:8448" }
      })
      assert.strictEqual(config.serverName, "10.0.0.1:8448")
    })
  )

  it.effect("TURN servers and rate limits come from tables of the file", () =>
    Effect.gen(function* () {
      const config = yield* read({
        toml: `
          enable_registration = false
          [turn]
          uris = ["turn:turn.example:3478?transport=udp", "turns:turn.example"]
          shared_secret = "hush"
          ttl = 60
          [rate_limits]
          sends = "20/1s"
          requests = "off"`
      })
      assert.isFalse(config.enableRegistration)
      assert.deepStrictEqual(config.turnUris, ["turn:turn.example:3478?transport=udp", "turns:turn.example"])
      assert.strictEqual(Redacted.value(config.turnSharedSecret!), "hush")
      assert.strictEqual(config.turnTtl, 60)
      assert.deepStrictEqual(config.sendRate, { limit: 20, window: 1_000 })
      assert.strictEqual(config.requestRate, "off")
    })
  )

  it.effect("the error of a wrong value is one line with the name that the operator wrote", () =>
    Effect.gen(function* () {
      const cases: ReadonlyArray<readonly [Parameters<typeof read>[0], RegExp]> = [
        [{ options: { port: "80a" } }, /^--port must be a port number from 0 to 65535, not "80a"$/],
        [{ options: { port: "65536" } }, /^--port must be/],
        [{ options: { port: "" } }, /^--port must be/],
        [{ environment: { GREENROOM_PORT: "-1" } }, /^GREENROOM_PORT must be a port number/],
        [{ environment: { GREENROOM_FEDERATION_VERIFY: "no" } }, /^GREENROOM_FEDERATION_VERIFY must be true or false/],
        [{ toml: "port = true" }, /^port in DIR\/greenroom.toml must be a port number/],
        [{ toml: "prot = 8008" }, /^prot in DIR\/greenroom.toml is not a setting$/],
        [{ toml: "[turn]\nurls = []" }, /^turn.urls in DIR\/greenroom.toml is not a setting$/],
        [{ toml: "turn = 5" }, /^turn in .* is not a setting$/],
        [{ toml: "port 8008" }, /^--config: DIR\/greenroom.toml is not TOML/],
        [{ toml: '[rate_limits]\nsends = "many"' }, /^rate_limits.sends in .* must be a rate/],
        [{ toml: '[turn]\nuris = ["turn:a"]' }, /^turn.uris needs turn.shared_secret$/],
        [{ toml: '[turn]\nuris = ["http://a"]' }, /^turn.uris in .* must be a list of URIs/],
        [
          { environment: { GREENROOM_CONFIG: "/none.toml" } },
          /^--config: cannot read \/none.toml: there is no such file$/
        ],
        [{ options: { serverName: "exa mple" } }, /^--server-name must be a server name/],
        [{ options: { serverName: "0" } }, /^--server-name must be a server name, such as .*, not "0"$/],
        [{ options: { serverName: "chat.0x7f:8448" } }, /^--server-name must be a server name/],
        [
          { environment: { GREENROOM_ENABLE_REGISTRATON: "false" } },
          /^GREENROOM_ENABLE_REGISTRATON: there is no such setting$/
        ],
        [
          { environment: { GREENROOM_PROT: "1", GREENROOM_IDENTITY_SERVER: "", PORT: "1" } },
          /^GREENROOM_IDENTITY_SERVER, GREENROOM_PROT: there are no such settings$/
        ],
        [{ options: { clusterPort: "0" } }, /^--cluster-port must be a port number from 1 to 65535, not "0"$/],
        [{ toml: "[turn]\nttl = 0" }, /^turn.ttl in .* must be a number of seconds from 1 to 31536000, not "0"$/],
        [{ toml: "[turn]\nuris = 1979-05-27" }, /^turn.uris in .* must be a list of URIs/],
        [{ toml: "[policy]\nlists = [1, 2]" }, /^policy.lists in .* must be a list of room IDs$/],
        [{ toml: "[port]\nnumber = 1" }, /^port in .* must be a port number from 0 to 65535$/],
        [{ toml: '[media.s3]\nbukket = "a"' }, /^media.s3.bukket in .* is not a setting$/],
        [{ toml: '[media.s3]\nendpoint = "http://a"' }, /^media.s3.endpoint needs media.s3.access_key_id$/],
        [{ options: { tlsCert: "/none.pem" } }, /^--tls-cert and --tls-key must be given together$/],
        [
          { environment: { GREENROOM_FEDERATION_CERTIFICATE_AUTHORITIES: "/none.pem" } },
          /^federation\.certificate_authorities: cannot read \/none\.pem/
        ],
        [{ options: { tlsCert: "/none.pem", tlsKey: "/none.pem" } }, /^--tls-cert: cannot read \/none.pem/],
        [{ options: { federationPort: "8008" } }, /^--federation-port must differ from --port/],
        [{ environment: { GREENROOM_METRICS_PORT: "8448" } }, /^metrics\.port must differ from --federation-port/],
        [
          { toml: 'cluster = true\ncluster_port = 8008\ndatabase_url = "postgresql://a/b"' },
          /^--cluster-port must differ from --port, both are 8008$/
        ],
        [{ options: { logLevel: "loud" } }, /^--log-level must be one of trace/]
      ]
      for (const [written, expected] of cases) {
        const message = yield* refused(written)
        assert.match(message, expected)
        assert.notInclude(message, "\n")
      }
    })
  )

  it.effect("errors show no secrets", () =>
    Effect.gen(function* () {
      const message = yield* refused({ options: { databaseUrl: "mysql://root:hush@localhost/" } })
      assert.match(message, /^--database-url must be a URL/)
      assert.notInclude(message, "hush")
    })
  )

  it.effect("a table of the file may be within another one", () =>
    Effect.gen(function* () {
      const config = yield* read({
        toml: `
          [media]
          quota_files = 7
          [media.s3]
          endpoint = "https://s3.example.org"
          bucket = "rooms"
          access_key_id = "greenroom"
          secret_access_key = "hush"
        `
      })
      assert.strictEqual(config.mediaQuotaFiles, 7)
      assert.deepInclude(toMediaOptions(config).s3, { endpoint: "https://s3.example.org", bucket: "rooms" })
    })
  )

  it.effect("the port of a listener that is off may be taken by another one", () =>
    Effect.gen(function* () {
      const config = yield* read({ toml: "[federation]\nenabled = false", options: { port: "8448" } })
      assert.strictEqual(config.port, 8448)
    })
  )

  it.effect("flows, mail and services come from tables of the file", () =>
    Effect.gen(function* () {
      const config = yield* read({
        toml: `
          public_url = "https://example.org"
          [login]
          flows = ["m.login.password+m.login.email.code", "m.login.oauth2"]
          registration = "token"
          token_ttl = 86400
          account_attempts = "5/1h"
          [mail]
          host = "mail.example.org"
          from = "Greenroom <noreply@example.org>"
          user = "greenroom"
          password = "hush"
          [[oauth2.providers]]
          id = "one"
          name = "One"
          client_id = "greenroom"
          client_secret = "hush"
          issuer = "https://one.example"
        `
      })
      assert.deepStrictEqual(config.loginFlows, [["m.login.password", "m.login.email.code"], ["m.login.oauth2"]])
      assert.deepStrictEqual(config.registrationFlows, [["m.login.password"]])
      const login = toLoginOptions(config)
      assert.deepStrictEqual([login.registration, login.tokenTtl], ["token", 86_400_000])
      assert.deepStrictEqual(login.accountAttempts, { limit: 5, window: 3_600_000 })
      assert.deepStrictEqual(
        [login.mail?.host, login.mail?.port, login.mail?.security],
        ["mail.example.org", 587, "starttls"]
      )
      assert.strictEqual(login.mail?.password && Redacted.value(login.mail.password), "hush")
      const [provider] = login.providers ?? []
      assert.deepStrictEqual([provider?.id, provider?.issuer], ["one", "https://one.example"])
      assert.notInclude(JSON.stringify(login), "hush")
    })
  )

  const provider = `[[oauth2.providers]]\nname = "One"\nclient_id = "a"\nclient_secret = "hush"\nissuer = "https://a.b"`
  const flows = (text: string) => ({ environment: { GREENROOM_LOGIN_FLOWS: text } })
  for (const [written, message] of [
    [flows("m.login.nonsense"), /^GREENROOM_LOGIN_FLOWS must be a list of flows/],
    [flows(""), undefined],
    [flows("m.login.email.code"), /m\.login\.email\.code in login\.flows needs a mail server: mail\.host/],
    [flows("m.login.oauth2"), /needs oauth2\.providers/],
    [flows("m.login.password+m.login.password"), /has a stage twice/],
    [flows("m.login.password,m.login.password+m.login.oauth2"), /is never reached/],
    [flows("m.login.registration_token"), /cannot have m\.login\.registration_token/],
    [{ toml: '[mail]\nhost = "a"' }, /mail\.host needs mail\.from/],
    [{ toml: '[mail]\nfrom = "a@b\\nBcc: c@d"' }, /mail\.from in .* must be an address/],
    [
      { toml: '[[oauth2.providers]]\nid = "one"\nclient_secret = "hush"' },
      /oauth2\.providers in .*: table 1: name: missing key/
    ],
    [
      { toml: `${provider}\nid = "one"\n${provider}\nid = "GitHub"` },
      /table 2: id: expected 1 to 64 of the letters a-z/
    ],
    [{ toml: `${provider}\nid = "one"\nclientsecret = "hush"` }, /table 1: clientsecret: not a setting/],
    [{ toml: `${provider}\nid = "one"\ntoken_endpoint = "https://a.b/"` }, /authorization_endpoint: expected both/],
    [
      { toml: `${provider.replace("https://a.b", "http://a.b")}\nid = "one"` },
      /table 1: issuer: expected an https URL; http needs allow_http = true/
    ],
    [{ toml: `${provider}\nid = "one"\nuserinfo_endpoint = "http://a.b/me"` }, /userinfo_endpoint: expected an https/],
    [{ environment: { GREENROOM_OAUTH2_PROVIDERS: "hush" } }, /must be a list of tables with id/],
    [
      { toml: "[login]\nmin_password_length = 0" },
      /login\.min_password_length in .* must be a number of characters from 1 to 128/
    ]
  ] as const) {
    it.effect(`${JSON.stringify(written)} ${message === undefined ? "is the default" : "is refused"}`, () =>
      Effect.gen(function* () {
        if (message === undefined)
          return assert.deepStrictEqual((yield* read(written)).loginFlows, [["m.login.password"]])
        const error = yield* refused(written)
        assert.match(error, message)
        assert.notInclude(error, "hush")
      })
    )
  }
})
