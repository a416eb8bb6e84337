import { type ChildProcess, spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { assert, layer } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { nodeOptions } from "@greenroom/store/testing/TestDns"
import { Effect, Layer, Redacted } from "effect"
import { askUrl } from "./support/TestIdentity.ts"

const main = fileURLToPath(new URL("../src/main.ts", import.meta.url))

interface Program {
  readonly process: ChildProcess
  /** The output so far. */
  readonly output: () => string
  /** Waits for it to end, and returns its exit code. */
  readonly ended: Effect.Effect<number | null>
}

const start = (args: ReadonlyArray<string>, environment: Record<string, string> = {}) =>
  Effect.acquireRelease(
    Effect.sync((): Program => {
      const child = spawn(process.execPath, [main, ...args], {
        env: { PATH: process.env.PATH ?? "", NODE_OPTIONS: nodeOptions, ...environment }
      })
      let output = ""
      const read = (chunk: Buffer) => {
        output += chunk
      }
      child.stdout.on("data", read)
      child.stderr.on("data", read)
      const ended = new Promise<number | null>((resolve) => child.once("close", resolve))
      return { process: child, output: () => output, ended: Effect.promise(() => ended) }
    }),
    (program) => Effect.sync(() => program.process.kill("SIGKILL"))
  )

/** Waits for a match in the output. */
const wrote = (program: Program, pattern: RegExp) =>
  Effect.callback<RegExpExecArray>((resume) => {
    const look = () => {
      const found = pattern.exec(program.output())
      if (found !== null) resume(Effect.succeed(found))
    }
    program.process.stdout!.on("data", look)
    program.process.once("close", () => resume(Effect.die(new Error(program.output()))))
    look()
  })

layer(Layer.empty, { excludeTestServices: true })("the program", (it) => {
  it.effect("the program starts with a database, prints its URL and key, and stops on SIGTERM", () =>
    Effect.gen(function* () {
      const databaseUrl = Redacted.value(yield* TestDatabase.emptyUrl)
      const environment = { GREENROOM_IDENTITY_DATABASE_URL: databaseUrl, GREENROOM_IDENTITY_SERVER_NAME: "id.test" }
      const program = yield* start(["--port", "0"], environment)
      const [, url] = yield* wrote(program, /listens on (http:[^ ]+)/)
      const [, keyId, key] = yield* wrote(program, /It signs with (ed25519:\S+) ([A-Za-z0-9+/]{43})/)
      const answer = yield* askUrl("GET", `${url}/_matrix/identity/api/v1/pubkey/${keyId}`)
      assert.strictEqual(answer.body.public_key, key)
      assert.isTrue((yield* askUrl("GET", `${url}/health`)).body.ok)
      program.process.kill("SIGTERM")
      assert.strictEqual(yield* program.ended, 0)
    })
  )

  it.effect("the key is replaced while the server runs, and the old one stays published", () =>
    Effect.gen(function* () {
      const databaseUrl = Redacted.value(yield* TestDatabase.emptyUrl)
      const environment = { GREENROOM_IDENTITY_DATABASE_URL: databaseUrl, GREENROOM_IDENTITY_SERVER_NAME: "id.test" }
      const program = yield* start(["--port", "0"], environment)
      const [, url] = yield* wrote(program, /listens on (http:[^ ]+)/)
      const [, oldId] = yield* wrote(program, /It signs with (ed25519:\S+)/)
      const rotation = yield* start(["rotate-key"], environment)
      assert.strictEqual(yield* rotation.ended, 0, rotation.output())
      const [, keyId, key] = /^id\.test signs with (ed25519:\S+) ([A-Za-z0-9+/]{43}),/.exec(rotation.output())!
      assert.include(rotation.output(), `${oldId} stays published`)
      const published = (id: string) => askUrl("GET", `${url}/_matrix/identity/api/v1/pubkey/${id}`)
      assert.strictEqual((yield* published(keyId!)).body.public_key, key)
      assert.strictEqual((yield* published(oldId!)).status, 200)
      const other = yield* start(["rotate-key", "--server-name", "other.test"], environment)
      assert.strictEqual(yield* other.ended, 1)
      assert.match(other.output(), /^greenroom-identity: .*belongs to the server name id\.test, not other\.test/)
      assert.strictEqual(other.output().trim().split("\n").length, 1)
    })
  )

  it.effect("a database of a home server is refused", () =>
    Effect.gen(function* () {
      const databaseUrl = Redacted.value(yield* TestDatabase.url)
      const program = yield* start(["--port", "0", "--database-url", databaseUrl])
      assert.strictEqual(yield* program.ended, 1)
      assert.match(program.output(), /^greenroom-identity: --database-url: .* belongs to a home server/)
      assert.strictEqual(program.output().trim().split("\n").length, 1)
    })
  )

  it.effect("the error of a wrong option is one line", () =>
    Effect.gen(function* () {
      const program = yield* start(["--port", "many"])
      assert.strictEqual(yield* program.ended, 1)
      assert.strictEqual(
        program.output(),
        'greenroom-identity: --port must be a port number from 0 to 65535, not "many"\n'
      )
      const help = yield* start(["--help"])
      assert.strictEqual(yield* help.ended, 0)
      assert.include(help.output(), "--smtp-host")
    })
  )
})
