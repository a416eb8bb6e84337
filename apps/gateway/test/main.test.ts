import { type ChildProcess, spawn } from "node:child_process"
import { type AddressInfo, createServer, type Server } from "node:net"
import { fileURLToPath } from "node:url"
import { NodeServices } from "@effect/platform-node"
import { assert, describe, it } from "@effect/vitest"
import { makeSelfSigned } from "@greenroom/gateway/federation/TlsCredentials"
import { ServerName } from "@greenroom/protocol/Identifiers"
import * as Database from "@greenroom/store/Database"
import * as CuttableDatabase from "@greenroom/store/testing/CuttableDatabase"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { nodeOptions } from "@greenroom/store/testing/TestDns"
import { Effect, FileSystem, Layer, Redacted, Schedule } from "effect"

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url))
const admin = fileURLToPath(new URL("../src/admin/main.ts", import.meta.url))

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

interface Program {
  readonly process: ChildProcess
  /** Waits for a match in stdout. */
  readonly untilOutput: (pattern: RegExp) => Effect.Effect<RegExpExecArray>
  readonly ended: Effect.Effect<Ended>
}

/** Runs a command, which is killed with the scope. */
const runCommand = (command: string, args: ReadonlyArray<string>) =>
  Effect.acquireRelease(
    Effect.sync((): Program => {
      const child = spawn(command, args, { env: { PATH: process.env.PATH, NODE_OPTIONS: nodeOptions }, stdio: "pipe" })
      const output = { stdout: "", stderr: "" }
      for (const name of ["stdout", "stderr"] as const) {
        child[name].setEncoding("utf8").on("data", (text: string) => {
          output[name] += text
        })
      }
      const ended = new Promise<Ended>((resolve) => child.once("close", (code) => resolve({ code, ...output })))
      return {
        process: child,
        ended: Effect.promise(() => ended),
        untilOutput: (pattern) =>
          Effect.callback<RegExpExecArray>((resume) => {
            const check = () => {
              const match = pattern.exec(output.stdout)
              if (match !== null) resume(Effect.succeed(match))
            }
            child.stdout.on("data", check)
            child.once("close", () => resume(Effect.die(new Error(`The program ended: ${output.stderr}`))))
            check()
          })
      }
    }),
    ({ ended, process }) =>
      Effect.andThen(
        Effect.sync(() => process.kill("SIGKILL")),
        ended
      )
  )

/** Runs the program. */
const run = (...options: ReadonlyArray<string>) => runCommand(process.execPath, [main, ...options])

const temporaryDirectory = Effect.flatMap(FileSystem.FileSystem, (fileSystem) => fileSystem.makeTempDirectoryScoped())

/** Adds free ports and a new data directory to options without them. */
const withDefaults = Effect.fnUntraced(function* (options: ReadonlyArray<string>) {
  const defaults = { "--port": "0", "--federation-port": "0", "--data-dir": yield* temporaryDirectory }
  return [...Object.entries(defaults).flatMap((entry) => (options.includes(entry[0]) ? [] : entry)), ...options]
})

/** Starts the program with a new database. Returns its URL. */
const start = Effect.gen(function* () {
  const database = Redacted.value(yield* TestDatabase.url)
  const program = yield* run(...(yield* withDefaults(["--database-url", database])))
  const [, url] = yield* program.untilOutput(/listens on (http:\/\/127\.0\.0\.1:\d+)/)
  return { ...program, url: url ?? "" }
})

const post = (url: string, body: unknown) =>
  Effect.promise(async () => {
    const response = await fetch(url, { method: "POST", body: JSON.stringify(body) })
    return (await response.json()) as Record<string, string>
  })

/** A port that is in use. */
const occupiedPort = Effect.acquireRelease(
  Effect.callback<Server>((resume) => {
    const server = createServer().listen(0, "127.0.0.1", () => resume(Effect.succeed(server)))
  }),
  (server) => Effect.sync(() => server.close())
).pipe(Effect.map((server) => (server.address() as AddressInfo).port))

describe("main", () => {
  for (const signal of ["SIGTERM", "SIGINT"] as const) {
    it.live(`${signal} answers the waiting long polls, and ends the server with 0`, () =>
      Effect.gen(function* () {
        const program = yield* start
        const api = `${program.url}/_matrix/client/api/v1`
        const { access_token } = yield* post(`${api}/register`, {
          type: "m.login.password",
          user: "alice",
          password: "wonderland"
        })
        const poll = fetch(`${api}/events?access_token=${access_token}&timeout=60000`)
        const health = yield* Effect.promise(() => fetch(`${program.url}/health`))
        assert.strictEqual(health.status, 200)
        program.process.kill(signal)
        assert.strictEqual((yield* Effect.promise(() => poll)).status, 200)
        const { code, stderr, stdout } = yield* program.ended
        assert.strictEqual(code, 0, stderr)
        assert.strictEqual(stderr, "")
        assert.notInclude(stdout, access_token ?? "")
        assert.lengthOf(stdout.match(/is shutting down/g) ?? [], 1)
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
    )
  }

  const programs = { "main.ts": [main], "greenroom serve": [admin, "serve"] }
  for (const [name, program] of Object.entries(programs)) {
    it.live(`${name} runs with the options of V8, and keeps those of the operator`, () =>
      Effect.gen(function* () {
        const database = Redacted.value(yield* TestDatabase.url)
        const options = yield* withDefaults(["--database-url", database])
        const server = yield* runCommand(process.execPath, ["--max-semi-space-size=8", ...program, ...options])
        yield* server.untilOutput(/listens on/)
        const { stdout } = yield* Effect.flatMap(
          runCommand("ps", ["-o", "args=", "-p", String(server.process.pid)]),
          ({ ended }) => ended
        )
        assert.include(stdout, "--no-allocation-site-pretenuring")
        assert.deepStrictEqual(stdout.match(/--max-semi-space-size=\d+/g), ["--max-semi-space-size=8"])
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
    )
  }

  it.live("a closed log pipe does not end the server", () =>
    Effect.gen(function* () {
      const program = yield* start
      program.process.stdout?.destroy()
      program.process.stderr?.destroy()
      // The server logs a line when it stops.
      program.process.kill("SIGTERM")
      assert.strictEqual((yield* program.ended).code, 0)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("SIGTERM to npm start ends the server and npm", () =>
    Effect.gen(function* () {
      const database = Redacted.value(yield* TestDatabase.url)
      const program = yield* runCommand("npm", [
        ...["--prefix", fileURLToPath(new URL("../../..", import.meta.url)), "start", "--"],
        ...(yield* withDefaults(["--database-url", database]))
      ])
      const [, url = ""] = yield* program.untilOutput(/listens on (http:\/\/127\.0\.0\.1:\d+)/)
      const npmEnded = new Promise((resolve) => program.process.once("exit", resolve))
      program.process.kill("SIGTERM")
      assert.strictEqual(yield* Effect.promise(() => npmEnded), 0)
      const stillServes = yield* Effect.promise(() => fetch(`${url}/health`).then(Boolean, () => false))
      assert.isFalse(stillServes)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("the content of an event is stored unchanged, independent of earlier content", () =>
    Effect.gen(function* () {
      const { url } = yield* start
      const api = `${url}/_matrix/client/api/v1`
      const { access_token } = yield* post(`${api}/register`, {
        type: "m.login.password",
        user: "alice",
        password: "wonderland"
      })
      const { room_id } = yield* post(`${api}/createRoom?access_token=${access_token}`, {})
      const path = `${api}/rooms/${encodeURIComponent(room_id ?? "")}`
      const contents = [
        { h: [], "\\": 0 },
        { h: [], '"': 0 },
        { h: [], "\n": 0 }
      ]
      for (const content of contents) yield* post(`${path}/send/org.example?access_token=${access_token}`, content)
      const answer = yield* Effect.promise(() => fetch(`${path}/messages?access_token=${access_token}&dir=b&limit=3`))
      const text = yield* Effect.promise(() => answer.text())
      for (const content of contents) assert.include(text, JSON.stringify(content))
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live(
    "a second start fails with the process ID of the server that uses the database, also if it has the port",
    () =>
      Effect.gen(function* () {
        const database = Redacted.value(yield* TestDatabase.url)
        const directory = yield* temporaryDirectory
        yield* (yield* FileSystem.FileSystem).chmod(directory, 0o711)
        for (const [option, value] of [
          ["--database-url", database],
          ["--data-dir", directory]
        ] as const) {
          const first = yield* run(...(yield* withDefaults([option, value])))
          const [, port = ""] = yield* first.untilOutput(/listens on http:\/\/127\.0\.0\.1:(\d+)/)
          const second = yield* run(...(yield* withDefaults([option, value, "--port", port])))
          const { code, stderr } = yield* second.ended
          assert.strictEqual(code, 1)
          assert.match(
            stderr,
            new RegExp(`^greenroom: .*Process ${first.process.pid}.*, another Greenroom, uses .*\n$`)
          )
          assert.lengthOf(stderr.split(option), 2, "the option occurs once")
          first.process.kill("SIGTERM")
          yield* first.ended
        }
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  it.live("a server whose database another server has taken over ends with one line", () =>
    Effect.gen(function* () {
      const url = yield* TestDatabase.url
      const database = yield* CuttableDatabase.make(url)
      const first = yield* run(...(yield* withDefaults(["--database-url", Redacted.value(database.url)])))
      yield* first.untilOutput(/listens on/)
      yield* database.cut
      // Refused until PostgreSQL has noticed that the connections of the first server are closed.
      const takeOver = Layer.build(Layer.fresh(Database.exclusiveLayer({ databaseUrl: url, dataDir: "unused" })))
      yield* Effect.retry(takeOver, { while: ({ _tag }) => _tag === "DatabaseInUse", schedule: Schedule.spaced(50) })
      yield* database.mend
      const { code, stderr } = yield* first.ended
      assert.strictEqual(code, 1)
      assert.match(stderr, /^greenroom: Another Greenroom took the database .*\n$/)
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  for (const option of ["--port", "--federation-port"]) {
    it.live(`a ${option} that is in use ends the program with one line that has the option`, () =>
      Effect.gen(function* () {
        const port = yield* occupiedPort
        const program = yield* run(...(yield* withDefaults([option, String(port)])))
        const { code, stderr, stdout } = yield* program.ended
        assert.strictEqual(code, 1)
        assert.strictEqual(stderr, `greenroom: ${option}: another program listens on 127.0.0.1 port ${port}\n`)
        assert.notInclude(stdout, "listens on")
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
    )
  }

  it.live("an unusable certificate or key ends the program with one line that has the option", () =>
    Effect.gen(function* () {
      const directory = yield* temporaryDirectory
      const write = Effect.fnUntraced(function* (name: string, text: string) {
        yield* (yield* FileSystem.FileSystem).writeFileString(`${directory}/${name}`, text)
        return `${directory}/${name}`
      })
      const make = Effect.promise(() => makeSelfSigned(ServerName.make("example.org"), Date.now()))
      const { cert, key } = yield* make
      const good = { cert: yield* write("cert.pem", cert), key: yield* write("key.pem", key) }
      const otherKey = yield* write("other.pem", (yield* make).key)
      const nonsense = yield* write("nonsense.pem", "hush, this is no PEM")
      const wrong = [
        [`${directory}/none`, good.key, /^greenroom: --tls-cert: .*none.*\n$/],
        [good.cert, `${directory}/none`, /^greenroom: --tls-key: .*none.*\n$/],
        [nonsense, good.key, /^greenroom: --tls-cert: .*nonsense\.pem.*\n$/],
        [good.cert, nonsense, /^greenroom: --tls-key: .*nonsense\.pem.*\n$/],
        [good.cert, otherKey, /^greenroom: --tls-key: .*other\.pem.*cert\.pem.*\n$/]
      ] as const
      for (const [tlsCert, tlsKey, expected] of wrong) {
        const program = yield* run(...(yield* withDefaults(["--tls-cert", tlsCert, "--tls-key", tlsKey])))
        const { code, stderr, stdout } = yield* program.ended
        assert.notStrictEqual(code, 0)
        assert.match(stderr, expected)
        assert.notMatch(stderr, /hush|PRIVATE/)
        assert.notInclude(stdout, "listens on")
      }
    }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
  )

  const wrong: ReadonlyArray<readonly [ReadonlyArray<string>, RegExp]> = [
    [
      ["--federation-port", "many"],
      /^greenroom: --federation-port must be a port number from 0 to 65535, not "many"\n$/
    ],
    [["--prot", "80"], /^greenroom: .*--prot.*\n$/],
    [["--port", "1", "--port", "2"], /^greenroom: .*--port.*\n$/],
    [["--no-such"], /^greenroom: .*--no-such.*\n$/],
    [["--config", "/none.toml"], /^greenroom: --config: cannot read \/none\.toml: there is no such file\n$/],
    [["--data-dir", "/proc/nope"], /^greenroom: --data-dir: cannot write to \/proc\/nope: .*\n$/],
    [["--data-dir", "/dev/null"], /^greenroom: --data-dir: cannot write to \/dev\/null: .*\n$/],
    [["--database-url", "postgresql://nobody:hush@127.0.0.1:1/none"], /^greenroom: --database-url: .*\n$/]
  ]
  for (const [options, expected] of wrong) {
    it.live(`${options.join(" ")} ends the program with one line`, () =>
      Effect.gen(function* () {
        const program = yield* run(...(yield* withDefaults(options)))
        const { code, stderr } = yield* program.ended
        assert.notStrictEqual(code, 0)
        assert.match(stderr, expected)
        assert.notInclude(stderr, "hush")
      }).pipe(Effect.scoped, Effect.provide(NodeServices.layer))
    )
  }

  it.live("--help lists options and their defaults", () =>
    Effect.gen(function* () {
      const program = yield* run("--help")
      const { code, stdout } = yield* program.ended
      assert.strictEqual(code, 0)
      for (const option of ["--server-name", "--port", "--data-dir", "--database-url", "--config", "8008"]) {
        assert.include(stdout, option)
      }
    }).pipe(Effect.scoped)
  )
})
