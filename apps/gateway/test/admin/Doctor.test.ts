/** `greenroom doctor` with faults of the machine: each is reported with a remedy. */
import { execFileSync, spawn } from "node:child_process"
import * as dgram from "node:dgram"
import * as fs from "node:fs/promises"
import * as https from "node:https"
import type * as net from "node:net"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { NodeServices } from "@effect/platform-node"
import { PgConnection } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { nodeOptions } from "@greenroom/store/testing/TestDns"
import { Effect, FileSystem, Redacted } from "effect"
import { generate } from "selfsigned"

const program = fileURLToPath(new URL("../../src/admin/main.ts", import.meta.url))

interface Finding {
  readonly check: string
  readonly status: string
  readonly found: string
  readonly remedy?: string
}

/** The findings of doctor. `wrap` runs it within another program. */
const doctor = (
  settings: { readonly [name: string]: string },
  options: ReadonlyArray<string> = [],
  wrap: ReadonlyArray<string> = []
) =>
  Effect.callback<{ readonly code: number | null; readonly findings: ReadonlyArray<Finding> }>((resume) => {
    const [command = "", ...args] = [...wrap, process.execPath, program, "doctor", "--json", ...options]
    const environment = Object.entries(settings).map(([name, value]) => [`GREENROOM_${name}`, value])
    const child = spawn(command, args, {
      stdio: ["ignore", "pipe", "inherit"],
      env: { PATH: process.env.PATH, NODE_OPTIONS: nodeOptions, ...Object.fromEntries(environment) }
    })
    let out = ""
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      out += text
    })
    child.once("close", (code) =>
      resume(
        Effect.succeed({
          code,
          findings: out
            .trim()
            .split("\n")
            .map((line) => JSON.parse(line) as Finding)
        })
      )
    )
  })

const temporaryDirectory = Effect.flatMap(FileSystem.FileSystem, (files) => files.makeTempDirectoryScoped())

/** Asserts that a finding is an error with this text and a remedy. */
const assertError = (findings: ReadonlyArray<Finding>, check: string, pattern: RegExp) => {
  const found = findings.find(
    (finding) => finding.check === check && finding.status === "error" && pattern.test(finding.found)
  )
  assert.isDefined(found, `${check} ${pattern} in ${JSON.stringify(findings, undefined, 2)}`)
  assert.isAbove(found?.remedy?.length ?? 0, 10)
  return found!
}

/** Settings of a server without faults. */
const well = Effect.gen(function* () {
  return {
    DATABASE_URL: Redacted.value(yield* TestDatabase.url),
    DATA_DIR: yield* temporaryDirectory,
    SERVER_NAME: "localhost",
    PORT: "0",
    FEDERATION_PORT: "0"
  }
})

const closes = (server: { close: () => unknown }) => Effect.addFinalizer(() => Effect.sync(() => server.close()))

/** A TLS server that answers like a home server with a wrong clock. */
const peerAt = Effect.fnUntraced(function* (date: Date, notAfterDate: Date) {
  const pems = yield* Effect.promise(() =>
    generate([{ name: "commonName", value: "localhost" }], { notBeforeDate: new Date(0), notAfterDate })
  )
  const server = https.createServer({ key: pems.private, cert: pems.cert }, (_request, response) => {
    response.writeHead(200, { date: date.toUTCString() }).end("{}")
  })
  yield* closes(server)
  yield* Effect.callback<void>((resume) => {
    server.listen(0, "127.0.0.1", () => resume(Effect.void))
  })
  return { pems, port: (server.address() as net.AddressInfo).port }
})

/** Whether this account may mount a small disk of its own. */
const mayMount = (() => {
  try {
    execFileSync("unshare", ["-m", "true"], { stdio: "ignore" })
    return true
  } catch {
    return false
  }
})()

const timeout = 120_000

describe("greenroom doctor", () => {
  it.live(
    "doctor finds no fault of a correct server",
    () =>
      Effect.gen(function* () {
        const { DATABASE_URL, ...embedded } = yield* well
        const { code, findings } = yield* doctor({ ...embedded, DATABASE_URL })
        assert.deepStrictEqual(
          findings.filter(({ status }) => status === "error"),
          []
        )
        assert.strictEqual(code, 0)
        for (const check of ["configuration", "database", "clock", "disk", "tls", "dns"]) {
          assert.isTrue(
            findings.some((finding) => finding.check === check),
            check
          )
        }
        const alone = yield* doctor(embedded)
        const clock = alone.findings.find(({ check }) => check === "clock")
        assert.strictEqual(clock?.status, "warning", "the embedded database has the clock of this machine")
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    timeout
  )

  it.live(
    "doctor reports a wrong setting, an unreachable database, a read-only one, and a role without privileges",
    () =>
      Effect.gen(function* () {
        const settings = yield* well
        const wrong = yield* doctor({ ...settings, PORT: "many" })
        assert.strictEqual(wrong.code, 1)
        assertError(wrong.findings, "configuration", /GREENROOM_PORT/)
        const away = yield* doctor({ ...settings, DATABASE_URL: "postgresql://nobody@127.0.0.1:1/nothing" })
        assertError(away.findings, "database", /does not answer.*ECONNREFUSED/)
        const readOnly = `${settings.DATABASE_URL}&options=${encodeURIComponent("-c default_transaction_read_only=on")}`
        assertError((yield* doctor({ ...settings, DATABASE_URL: readOnly })).findings, "database", /is read-only/)
        const missing = URL.parse(settings.DATABASE_URL)!
        missing.pathname = "/nothing"
        const { findings } = yield* doctor({ ...settings, DATABASE_URL: missing.href })
        assertError(findings, "database", /refuses: database "nothing" does not exist/)
        const weak = `${settings.DATABASE_URL}&options=${encodeURIComponent("-c role=pg_monitor")}`
        const refused = yield* doctor({ ...settings, DATABASE_URL: weak })
        assertError(refused.findings, "database", /permission denied/)
        assert.isTrue(refused.findings.some(({ remedy }) => remedy?.includes("GRANT")))
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    timeout
  )

  it.live(
    "doctor reports a store of files that cannot be reached",
    () =>
      Effect.gen(function* () {
        const store = { MEDIA_S3_ENDPOINT: "http://127.0.0.1:1", MEDIA_S3_BUCKET: "greenroom" }
        const key = { MEDIA_S3_ACCESS_KEY_ID: "key", MEDIA_S3_SECRET_ACCESS_KEY: "secret" }
        const { code, findings } = yield* doctor({ ...(yield* well), ...store, ...key })
        assert.strictEqual(code, 1)
        assertError(findings, "files", /^the bucket greenroom of http:\/\/127\.0\.0\.1:1 cannot be used: ECONNREFUSED/)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    timeout
  )

  it.live(
    "doctor reports a database with another encoding, one of a development version, and an incomplete backup",
    () =>
      Effect.gen(function* () {
        const settings = yield* well
        const connection = yield* PgConnection.make({ url: Redacted.make(settings.DATABASE_URL) })
        const ascii = URL.parse(settings.DATABASE_URL)!
        ascii.pathname = `${ascii.pathname}_ascii`
        const name = ascii.pathname.slice(1)
        yield* Effect.acquireRelease(
          connection.query(
            `CREATE DATABASE ${name} ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0`
          ),
          () => Effect.orDie(connection.query(`DROP DATABASE ${name} WITH (FORCE)`))
        )
        const encoding = yield* doctor({ ...settings, DATABASE_URL: ascii.href })
        assertError(encoding.findings, "database", /stores text as SQL_ASCII/)
        yield* connection.query("DELETE FROM migrations WHERE migration_id = 5")
        assertError((yield* doctor(settings)).findings, "database", /lacks the migration 0005_logins/)
        yield* connection.query("CREATE TABLE restore_unfinished ()")
        assertError((yield* doctor(settings)).findings, "database", /has half of a backup/)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    timeout
  )

  it.live(
    "doctor reports ports in use, and an expired certificate, of the settings in its options too",
    () =>
      Effect.gen(function* () {
        const settings = yield* well
        const { pems, port } = yield* peerAt(new Date(), new Date(Date.now() - 86_400_000))
        const [cert, key] = [path.join(settings.DATA_DIR, "cert.pem"), path.join(settings.DATA_DIR, "key.pem")]
        yield* Effect.promise(() => Promise.all([fs.writeFile(cert, pems.cert), fs.writeFile(key, pems.private)]))
        const options = ["--federation-port", `${port}`, "--tls-cert", cert, "--tls-key", key]
        const { findings } = yield* doctor(settings, options)
        assertError(findings, "ports", /taken by another program/)
        assertError(findings, "tls", /has expired/)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    timeout
  )

  it.live(
    "doctor reports a closed port, a wrong clock, an expired certificate of another server, and DNS that does not answer",
    () =>
      Effect.gen(function* () {
        const settings = yield* well
        const slow = yield* peerAt(new Date(Date.now() - 3_600_000), new Date(Date.now() + 86_400_000))
        const expired = yield* peerAt(new Date(), new Date(Date.now() - 86_400_000))
        const silent = dgram.createSocket("udp4")
        yield* closes(silent)
        yield* Effect.callback<void>((resume) => {
          silent.bind(0, "127.0.0.1", () => resume(Effect.void))
        })
        const authority = path.join(settings.DATA_DIR, "authorities.pem")
        yield* Effect.promise(() => fs.writeFile(authority, `${slow.pems.cert}\n${expired.pems.cert}`))
        // Without --peer, doctor checks the servers that were reached last.
        const connection = yield* PgConnection.make({ url: Redacted.make(settings.DATABASE_URL) })
        yield* connection.query(
          `INSERT INTO destinations (destination, last_success_at, failures)
           VALUES ('slow.test', 1, 0), ('closed.test', 2, 0), ('failing.test', 3, 1)`
        )
        const servers = {
          ...settings,
          SERVER_NAME: "green.test",
          FEDERATION_SERVERS: `slow.test=127.0.0.1:${slow.port},expired.test=127.0.0.1:${expired.port},closed.test=127.0.0.1:1`,
          FEDERATION_DNS_SERVERS: `127.0.0.1:${silent.address().port}`,
          FEDERATION_VERIFY: "false"
        }
        const { findings } = yield* doctor(servers)
        assert.notInclude(JSON.stringify(findings), "failing.test does not answer")
        assertError(findings, "clock", /is 60 minutes ahead of that of slow\.test/)
        assertError(findings, "federation", /closed\.test does not answer: .*ECONNREFUSED/)
        assertError(findings, "federation", /green\.test, as others reach it, does not answer/)
        assertError(findings, "dns", /does not answer \(127\.0\.0\.1:\d+: ETIMEOUT\)/)
        // Where all of them fail, they are asked all the same: this server may be at fault.
        yield* connection.query("UPDATE destinations SET failures = 1")
        const failing = yield* doctor({ ...servers, SERVER_NAME: "localhost" })
        assertError(failing.findings, "clock", /is 60 minutes ahead of that of slow\.test/)
        const verified = yield* doctor(
          {
            ...settings,
            FEDERATION_SERVERS: `localhost=127.0.0.1:1,expired.test=127.0.0.1:${expired.port}`,
            FEDERATION_CERTIFICATE_AUTHORITIES: authority
          },
          ["--peer", "expired.test"]
        )
        assertError(verified.findings, "federation", /expired\.test does not answer: .*expired/)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    timeout
  )

  it.live.skipIf(!mayMount)(
    "doctor reports a full disk",
    () =>
      Effect.gen(function* () {
        const settings = yield* well
        const mounted = `mount -t tmpfs -o size=64k tmpfs "${settings.DATA_DIR}" && exec "$@"`
        const { code, findings } = yield* doctor(settings, [], ["unshare", "-m", "sh", "-c", mounted, "sh"])
        assert.strictEqual(code, 1)
        const { remedy } = assertError(findings, "disk", /the disk is full/)
        assert.match(remedy ?? "", /Then start the server/)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer)),
    timeout
  )
})
