import { type ChildProcess, spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { PgConnection } from "@effect/sql-pg"
import { assert, describe, it } from "@effect/vitest"
import { Context, Effect, Layer, Redacted, Schedule, type Scope } from "effect"
import { SqlClient } from "effect/sql"
import * as Database from "../src/Database.ts"
import { EmbeddedPostgres } from "../src/EmbeddedPostgres.ts"
import { processIdentity, waitUntil } from "../src/internal/processes.ts"
import * as Loopback from "../src/testing/Loopback.ts"

const program = fileURLToPath(new URL("programs/embedded.ts", import.meta.url))
const root = process.getuid?.() === 0

const temporaryDirectory = Loopback.temporaryDirectory("store")

interface Gateway {
  readonly process: ChildProcess
  /** The line that it wrote when it was ready, or the error. */
  readonly line: string
  readonly url: Redacted.Redacted
  readonly output: () => string
  readonly exit: Promise<number | NodeJS.Signals | null>
}

/** Starts the program, in a process group of its own, and waits for its first line. */
const startGateway = (
  dataDir: string,
  command: ReadonlyArray<string> = []
): Effect.Effect<Gateway, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.promise(async () => {
      const [first, ...rest] = [...command, process.execPath, program, dataDir]
      const child = spawn(first!, rest, { stdio: ["ignore", "pipe", "pipe"], detached: true })
      let output = ""
      const exit = new Promise<number | NodeJS.Signals | null>((resolve) =>
        child.once("close", (code, signal) => resolve(code ?? signal))
      )
      const line = await new Promise<string>((resolve) => {
        const onData = (chunk: Buffer) => {
          output += chunk.toString()
          const end = output.indexOf("\n")
          if (end >= 0) resolve(output.slice(0, end))
        }
        child.stdout.on("data", onData)
        child.stderr.on("data", onData)
        child.once("close", () => resolve(output))
      })
      const url = Redacted.make(line.replace("ready ", ""))
      return { process: child, line, url, output: () => output, exit }
    }),
    (gateway) =>
      Effect.promise(async () => {
        gateway.process.kill("SIGTERM")
        await gateway.exit
      })
  )

const query = (url: Redacted.Redacted, statement: string) =>
  Effect.scoped(Effect.flatMap(PgConnection.make({ url }), (connection) => connection.query(statement))).pipe(
    Effect.map(({ rows }) => rows)
  )

const postmasterPid = (dataDir: string) =>
  Effect.promise(async () => Number((await fs.readFile(`${dataDir}/postgres/postmaster.pid`, "utf8")).split("\n")[0]))

const ends = (pid: number) =>
  Effect.promise(() => waitUntil(async () => (await processIdentity(pid)) === undefined, 30_000))

const kill = (gateway: Gateway) =>
  Effect.promise(() => {
    gateway.process.kill("SIGKILL")
    return gateway.exit
  })

const writeNote = (url: Redacted.Redacted) =>
  Effect.andThen(
    query(url, "CREATE TABLE notes (text text)"),
    query(url, "INSERT INTO notes VALUES ('written before')")
  )
const notes = (url: Redacted.Redacted) => query(url, "SELECT text FROM notes")
const written = [{ text: "written before" }]

describe("EmbeddedPostgres", () => {
  it.live("data survives a restart", () =>
    Effect.gen(function* () {
      const dataDir = path.join(yield* temporaryDirectory, "made", "here")
      const run = <A, E>(use: (url: Redacted.Redacted) => Effect.Effect<A, E>) =>
        Effect.scoped(Effect.flatMap(EmbeddedPostgres.make({ dataDir }), ({ url }) => use(url)))
      yield* run(writeNote)
      assert.deepStrictEqual(yield* run(notes), written)
      assert.deepStrictEqual(
        yield* run((url) => query(url, "SELECT current_setting('fsync') f, current_setting('synchronous_commit') s")),
        [{ f: "on", s: "on" }]
      )
    })
  )

  it.live("a gateway killed with SIGKILL loses nothing and can be started again at once", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      const first = yield* startGateway(dataDir)
      yield* writeNote(first.url)
      yield* kill(first)
      const second = yield* startGateway(dataDir)
      assert.deepStrictEqual(yield* notes(second.url), written)

      // PostgreSQL too: its lock file stays behind.
      const pid = yield* postmasterPid(dataDir)
      process.kill(second.process.pid!, "SIGSTOP")
      process.kill(pid, "SIGKILL")
      yield* kill(second)
      const third = yield* startGateway(dataDir)
      assert.deepStrictEqual(yield* notes(third.url), written)
    })
  )

  it.live("PostgreSQL ends when its gateway was killed", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      const gateway = yield* startGateway(dataDir)
      const pid = yield* postmasterPid(dataDir)
      yield* kill(gateway)
      assert.isTrue(yield* ends(pid))
      const log = yield* Effect.promise(() => fs.readFile(`${dataDir}/postgres.log`, "utf8"))
      assert.include(log, "database system is shut down")
    })
  )

  it.live("a lock file with the number of a foreign process does not prevent the start", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      const first = yield* startGateway(dataDir)
      yield* writeNote(first.url)
      const file = `${dataDir}/postgres/postmaster.pid`
      const lock = yield* Effect.promise(() => fs.readFile(file, "utf8"))
      first.process.kill("SIGTERM")
      yield* Effect.promise(() => first.exit)
      const foreign = lock.replace(/^\d+/, String(process.pid))
      yield* Effect.promise(() => fs.writeFile(file, foreign))
      yield* Effect.promise(() => fs.writeFile(`${dataDir}/postgres/.s.PGSQL.5432.lock`, foreign))
      yield* Effect.promise(() => fs.writeFile(`${dataDir}/greenroom.lock`, `${process.pid}\nstarted long ago\n`))
      const second = yield* startGateway(dataDir)
      assert.deepStrictEqual(yield* notes(second.url), written)
    })
  )

  it.live("a first start that was interrupted is done again", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      yield* Effect.promise(() => fs.mkdir(`${dataDir}/postgres.new/base`, { recursive: true }))
      yield* Effect.promise(() => fs.writeFile(`${dataDir}/postgres.new/PG_VERSION`, "18\n"))
      const gateway = yield* startGateway(dataDir)
      assert.deepStrictEqual(yield* query(gateway.url, "SELECT 1 AS one"), [{ one: 1 }])
    })
  )

  it.live("a second gateway on the same directory is refused, and the first continues", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      const first = yield* startGateway(dataDir)
      const second = yield* startGateway(dataDir)
      assert.strictEqual(yield* Effect.promise(() => second.exit), 2)
      assert.strictEqual(second.output().trim().split("\n").length, 1)
      assert.include(second.line, "--data-dir")
      assert.include(second.line, String(first.process.pid))
      assert.deepStrictEqual(yield* query(first.url, "SELECT 1 AS one"), [{ one: 1 }])
    })
  )

  it.live("Ctrl-C lets the gateway finish its work before PostgreSQL ends", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      const gateway = yield* startGateway(dataDir)
      const pid = yield* postmasterPid(dataDir)
      process.kill(-gateway.process.pid!, "SIGINT")
      yield* Effect.promise(() => gateway.exit)
      assert.include(gateway.output(), "drained")
      assert.isUndefined(yield* Effect.promise(() => processIdentity(pid)))
    })
  )

  it.live(
    "a PostgreSQL that recovers from a crash ends with its gateway, and the next start ends one that was left",
    () =>
      Effect.gen(function* () {
        const dataDir = yield* temporaryDirectory
        const crash = Effect.fnUntraced(function* (url: Redacted.Redacted) {
          const [row] = yield* query(url, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'")
          process.kill((row as { readonly pid: number }).pid, "SIGKILL")
        })
        const left = yield* startGateway(dataDir)
        yield* crash(left.url)
        left.process.kill("SIGKILL")
        yield* Effect.promise(() => left.exit)
        const next = yield* startGateway(dataDir)
        assert.match(next.line, /^ready /)
        yield* crash(next.url)
        next.process.kill("SIGTERM")
        yield* Effect.promise(() => next.exit)
        assert.match((yield* startGateway(dataDir)).line, /^ready /)
      })
  )

  it.live("a PostgreSQL that dies is started again, and the home server finds it", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      const context = yield* Layer.build(Database.layer({ dataDir, maxConnections: 4 }))
      const sql = Context.get(context, SqlClient.SqlClient)
      yield* sql`INSERT INTO server_settings VALUES ('written', 'before')`
      const find = sql`SELECT value FROM server_settings WHERE name = 'written'`
      const backends = yield* sql<{
        pid: number
      }>`SELECT pid FROM pg_stat_activity WHERE application_name = 'greenroom'`
      process.kill(yield* postmasterPid(dataDir), "SIGKILL")
      yield* Effect.forEach(backends, ({ pid }) => ends(pid), { concurrency: "unbounded" })
      const found = yield* find.pipe(Effect.retry(Schedule.spaced("50 millis")))
      assert.deepStrictEqual(found, [{ value: "before" }])
      const all = yield* Effect.all(
        Array.from({ length: 100 }, () => find),
        { concurrency: "unbounded" }
      )
      assert.strictEqual(all.length, 100)
    })
  )

  it.live("a path too long for a socket works", () =>
    Effect.gen(function* () {
      const dataDir = path.join(yield* temporaryDirectory, "long".repeat(30))
      const gateway = yield* startGateway(dataDir)
      assert.deepStrictEqual(yield* query(gateway.url, "SELECT 1 AS one"), [{ one: 1 }])
    })
  )

  it.live("files of another PostgreSQL version are left alone", () =>
    Effect.gen(function* () {
      const dataDir = yield* temporaryDirectory
      yield* Effect.promise(() => fs.mkdir(`${dataDir}/postgres`, { mode: 0o700 }))
      yield* Effect.promise(() => fs.writeFile(`${dataDir}/postgres/PG_VERSION`, "17\n"))
      const gateway = yield* startGateway(dataDir)
      assert.include(gateway.line, "written by PostgreSQL 17")
      assert.deepStrictEqual(yield* Effect.promise(() => fs.readdir(`${dataDir}/postgres`)), ["PG_VERSION"])
    })
  )

  describe.runIf(root)("as root", () => {
    it.live("works in a directory that no other account may pass", () =>
      Effect.gen(function* () {
        const parent = yield* temporaryDirectory
        yield* Effect.promise(() => fs.chmod(parent, 0o700))
        const gateway = yield* startGateway(path.join(parent, "data"))
        assert.deepStrictEqual(yield* query(gateway.url, "SELECT 1 AS one"), [{ one: 1 }])
      })
    )

    const user = ["setpriv", "--reuid=nobody", "--regid=65534", "--clear-groups"]

    it.live("as a plain user it works in a directory of its own, but not in another user's", () =>
      Effect.gen(function* () {
        const parent = yield* temporaryDirectory
        const refused = yield* startGateway(path.join(parent, "data"), user)
        assert.strictEqual(yield* Effect.promise(() => refused.exit), 2)
        assert.include(refused.line, "--data-dir")
        yield* Effect.promise(() => fs.chown(parent, 65_534, 65_534))
        const gateway = yield* startGateway(path.join(parent, "data"), user)
        assert.deepStrictEqual(yield* query(gateway.url, "SELECT 1 AS one"), [{ one: 1 }])
      })
    )
  })
})
