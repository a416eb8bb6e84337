import { X509Certificate } from "node:crypto"
import { readdir, stat, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { temporaryDirectory } from "@greenroom/store/testing/Loopback"
import { Effect } from "effect"
import { makeSelfSigned, tlsCredentials, validityWarning } from "../../src/federation/TlsCredentials.ts"

const serverName = "example.org" as ServerName

describe("TlsCredentials", () => {
  it.live("a pair is created for the server name, and kept in a file that only its owner can read", () =>
    Effect.gen(function* () {
      const dataDir = join(yield* temporaryDirectory("tls"), "data")
      const first = yield* tlsCredentials({ serverName, dataDir })
      const certificate = new X509Certificate(first.cert)
      assert.strictEqual(certificate.checkHost("example.org"), "example.org")
      const second = yield* tlsCredentials({ serverName, dataDir })
      assert.deepStrictEqual([second.cert.trim(), second.key.trim()], [first.cert.trim(), first.key.trim()])
      const files = yield* Effect.promise(() => readdir(dataDir))
      assert.strictEqual(files.length, 1)
      const { mode } = yield* Effect.promise(() => stat(join(dataDir, files[0]!)))
      assert.strictEqual(mode & 0o777, 0o600)
    })
  )

  it.live("the certificate of a server name that is an IP address has the address", () =>
    Effect.gen(function* () {
      const { cert } = yield* tlsCredentials({
        serverName: "[::1]:8449" as ServerName,
        dataDir: yield* temporaryDirectory("tls")
      })
      assert.isDefined(new X509Certificate(cert).checkIP("::1"))
    })
  )

  it.live("a damaged pair, or one of another server name, is replaced", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory("tls")
      const first = yield* tlsCredentials({ serverName, dataDir })
      const other = yield* tlsCredentials({ serverName: "other.org" as ServerName, dataDir })
      assert.notStrictEqual(other.cert.trim(), first.cert.trim())
      const [file] = yield* Effect.promise(() => readdir(dataDir))
      yield* Effect.promise(() => writeFile(join(dataDir, file!), "not a key"))
      const again = yield* tlsCredentials({ serverName, dataDir })
      assert.isDefined(new X509Certificate(again.cert).checkHost("example.org"))
    })
  )

  it("a configured certificate that has expired, expires soon or is not valid yet gives a warning", async () => {
    const credentials = await makeSelfSigned(serverName, Date.parse("2026-01-10T00:00:00Z"))
    const tls = { serverName, dataDir: "unused", tlsCert: "cert.pem", tlsKey: "key.pem" }
    const at = (time: string) => validityWarning(tls, credentials, Date.parse(time))
    assert.match(at("2026-01-01T00:00:00Z") ?? "", /^The certificate cert\.pem is not valid before Jan {2}9 .*clock/)
    assert.isUndefined(at("2030-01-01T00:00:00Z"))
    assert.match(at("2035-12-31T00:00:00Z") ?? "", /cert\.pem expires Jan {2}8 .*renew it/)
    assert.match(at("2036-02-01T00:00:00Z") ?? "", /cert\.pem has expired \(Jan {2}8 .*renew it/)
    assert.isUndefined(validityWarning({ serverName, dataDir: "unused" }, credentials, Date.parse("2036-02-01")))
  })

  it.live("configured files are used, and an error about them does not contain the key", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory("tls")
      const [one, two] = [join(dataDir, "one"), join(dataDir, "two")]
      for (const path of [one, two]) {
        const { cert, key } = yield* Effect.promise(() => makeSelfSigned(serverName, Date.now()))
        yield* Effect.promise(() => writeFile(`${path}.crt`, cert))
        yield* Effect.promise(() => writeFile(`${path}.key`, key))
      }
      const use = (tlsCert: string | undefined, tlsKey: string | undefined) =>
        tlsCredentials({ serverName, dataDir, tlsCert, tlsKey })
      assert.include((yield* use(`${one}.crt`, `${one}.key`)).cert, "BEGIN CERTIFICATE")
      const problem = (tlsCert: string | undefined, tlsKey: string | undefined) =>
        Effect.map(Effect.flip(use(tlsCert, tlsKey)), (error) => error.message)
      assert.include(yield* problem(`${one}.crt`, undefined), "together")
      assert.include(yield* problem(`${one}.crt`, `${two}.key`), `${two}.key`)
      assert.include(yield* problem(join(dataDir, "none"), `${one}.key`), "none")
      assert.notInclude(yield* problem(`${one}.crt`, `${two}.key`), "PRIVATE")
    })
  )
})
