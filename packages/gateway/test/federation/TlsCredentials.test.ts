import { X509Certificate } from "node:crypto"
import { mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { assert, describe, it } from "@effect/vitest"
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Effect } from "effect"
import { makeSelfSigned, tlsCredentials, validityWarning } from "../../src/federation/TlsCredentials.ts"

const serverName = "example.org" as ServerName

const directory = Effect.acquireRelease(
  Effect.promise(() => mkdtemp(join(tmpdir(), "greenroom-tls-"))),
  (path) => Effect.promise(() => rm(path, { recursive: true, force: true }))
)

describe("TlsCredentials", () => {
  it.live("without files a pair is made for the server's name, kept, and readable only by the owner", () =>
    Effect.gen(function* () {
      const dataDir = join(yield* directory, "data")
      const first = yield* tlsCredentials({ serverName, dataDir })
      const certificate = new X509Certificate(first.cert)
      assert.strictEqual(certificate.checkHost("example.org"), "example.org")
      assert.deepStrictEqual(
        yield* tlsCredentials({ serverName, dataDir }),
        yield* tlsCredentials({ serverName, dataDir })
      )
      assert.strictEqual((yield* tlsCredentials({ serverName, dataDir })).cert.trim(), first.cert.trim())
      const files = yield* Effect.promise(() => readdir(dataDir))
      assert.strictEqual(files.length, 1)
      const { mode } = yield* Effect.promise(() => stat(join(dataDir, files[0]!)))
      assert.strictEqual(mode & 0o777, 0o600)
    })
  )

  it.live("the certificate of a server that is an address names the address", () =>
    Effect.gen(function* () {
      const { cert } = yield* tlsCredentials({ serverName: "[::1]:8449" as ServerName, dataDir: yield* directory })
      assert.isDefined(new X509Certificate(cert).checkIP("::1"))
    })
  )

  it.live("a pair that is damaged, or of another name, is made anew", () =>
    Effect.gen(function* () {
      const dataDir = yield* directory
      const first = yield* tlsCredentials({ serverName, dataDir })
      const other = yield* tlsCredentials({ serverName: "other.org" as ServerName, dataDir })
      assert.notStrictEqual(other.cert.trim(), first.cert.trim())
      const [file] = yield* Effect.promise(() => readdir(dataDir))
      yield* Effect.promise(() => writeFile(join(dataDir, file!), "not a key"))
      const again = yield* tlsCredentials({ serverName, dataDir })
      assert.isDefined(new X509Certificate(again.cert).checkHost("example.org"))
    })
  )

  it("warns of an operator's certificate that has expired, soon does, or is not valid yet", async () => {
    const credentials = await makeSelfSigned(serverName, Date.parse("2026-01-10T00:00:00Z"))
    const tls = { serverName, dataDir: "unused", tlsCert: "cert.pem", tlsKey: "key.pem" }
    const at = (time: string) => validityWarning(tls, credentials, Date.parse(time))
    assert.match(at("2026-01-01T00:00:00Z") ?? "", /^The certificate cert\.pem is not valid before Jan {2}9 .*clock/)
    assert.isUndefined(at("2030-01-01T00:00:00Z"))
    assert.match(at("2035-12-31T00:00:00Z") ?? "", /cert\.pem expires Jan {2}8 .*renew it/)
    assert.match(at("2036-02-01T00:00:00Z") ?? "", /cert\.pem has expired \(Jan {2}8 .*renew it/)
    assert.isUndefined(validityWarning({ serverName, dataDir: "unused" }, credentials, Date.parse("2036-02-01")))
  })

  it.live("the operator's files are used, or their fault is reported without the key", () =>
    Effect.gen(function* () {
      const dataDir = yield* directory
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
