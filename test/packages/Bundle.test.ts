/** The bundle of the programs, which `npm start`, `npm run greenroom` and `npm run identity` run. */
import { execFile, spawn } from "node:child_process"
import { once } from "node:events"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { promisify } from "node:util"
import { assert, describe, it } from "@effect/vitest"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect } from "effect"
import sharp from "sharp"
import * as GatewayProcess from "../support/GatewayProcess.ts"

const repository = path.resolve(import.meta.dirname, "../..")
const run = promisify(execFile)

const rules = `
  import { spam } from "@greenroom/actors/policy/PolicyRules"
  export default [spam(/free crypto/gi)]`

/** A small repository: one line for each program, and nothing to install. */
const smallRepository = Effect.gen(function* () {
  const root = yield* GatewayProcess.temporaryDirectory
  const write = async (file: string, content: string) => {
    await fs.mkdir(path.dirname(path.join(root, file)), { recursive: true })
    await fs.writeFile(path.join(root, file), content)
  }
  yield* Effect.promise(async () => {
    await write("build/bundle.mjs", await fs.readFile(path.join(repository, "build/bundle.mjs"), "utf8"))
    await write("package-lock.json", "{}")
    await write("apps/identity/templates/code.txt", "{{code}}")
    await write("apps/identity/src/main.ts", "export const program = 'identity'")
    await write("apps/gateway/src/main.ts", "export const program = 'gateway'")
    await write("apps/gateway/src/admin/main.ts", "export const program = 'greenroom'")
    await write("packages/actors/src/media/internal/thumbnailProgram.ts", "export const program = 'thumbnail'")
    await fs.mkdir(path.join(root, "node_modules"))
    for (const name of ["rolldown", "@rolldown"]) {
      await fs.symlink(path.join(repository, "node_modules", name), path.join(root, "node_modules", name))
    }
  })
  const bundle = Effect.promise(() => run(process.execPath, [path.join(root, "build/bundle.mjs")]))
  const directory = path.join(root, "node_modules/.cache/greenroom")
  const bundles = Effect.promise(() => fs.readdir(directory))
  return {
    write: (file: string, content: string) => Effect.promise(() => write(file, content)),
    bundle,
    bundles,
    directory
  }
})

describe("the bundle", () => {
  it.live("npm start runs it, with its thumbnails and the rules of a file", () =>
    Effect.gen(function* () {
      const dataDir = yield* GatewayProcess.temporaryDirectory
      const file = path.join(dataDir, "rules.mjs")
      yield* Effect.promise(() => fs.writeFile(file, rules))
      const { pid, url } = yield* GatewayProcess.start({
        dataDir,
        databaseUrl: yield* TestDatabase.url,
        environment: { GREENROOM_POLICY_RULES: file, GREENROOM_ENABLE_REGISTRATION: "true" }
      })
      const command = yield* Effect.promise(() => fs.readFile(`/proc/${pid}/cmdline`, "utf8"))
      assert.include(command, path.join("node_modules/.cache/greenroom"))

      const ask = (
        method: string,
        target: string,
        body: string | Uint8Array<ArrayBuffer> | undefined,
        headers: Record<string, string> = {}
      ) =>
        Effect.promise(() =>
          fetch(`${url}/_matrix/${target}`, { method, headers, ...(body === undefined ? {} : { body }) })
        )
      const json = (response: Response) => Effect.promise(() => response.json() as Promise<Record<string, string>>)
      const registration = { username: "alice", password: "wonderland", auth: { type: "m.login.dummy" } }
      const { access_token } = yield* Effect.flatMap(
        ask("POST", "client/v3/register", JSON.stringify(registration)),
        json
      )
      const headers = { authorization: `Bearer ${access_token}` }
      const image = yield* Effect.promise(() =>
        sharp({ create: { width: 800, height: 600, channels: 3, background: "teal" } })
          .png()
          .toBuffer()
      )
      const { content_uri = "" } = yield* Effect.flatMap(
        ask("POST", "media/v3/upload", new Uint8Array(image), { ...headers, "content-type": "image/png" }),
        json
      )
      const place = content_uri.slice("mxc://".length)
      const query = "width=32&height=32&method=scale"
      const thumbnail = yield* ask("GET", `client/v1/media/thumbnail/${place}?${query}`, undefined, headers)
      assert.strictEqual(thumbnail.status, 200)
      const { height } = yield* Effect.promise(async () => sharp(await thumbnail.arrayBuffer()).metadata())
      assert.strictEqual(height, 24)
    })
  )

  it.live("the identity server starts from it, with its templates", () =>
    Effect.gen(function* () {
      const dataDir = yield* GatewayProcess.temporaryDirectory
      const settings = ["--server-name", "id.test", "--port", "0", "--data-dir", dataDir]
      const program = path.join(repository, "build/run.mjs")
      const child = yield* Effect.acquireRelease(
        Effect.sync(() => spawn(process.execPath, [program, "identity", ...settings])),
        (child) =>
          Effect.promise(async () => {
            const ended = once(child, "close")
            if (child.kill("SIGTERM")) await ended
          })
      )
      const output = yield* Effect.callback<string>((resume) => {
        let output = ""
        const keep = (chunk: Buffer) => {
          output += chunk.toString()
          if (/listens on/.test(output)) resume(Effect.succeed(output))
        }
        child.stdout.on("data", keep)
        child.stderr.on("data", keep)
        child.once("close", () => resume(Effect.succeed(output)))
      })
      assert.match(output, /listens on/)
    })
  )

  it.live("it is written once for the same sources, also by two programs at once", () =>
    Effect.gen(function* () {
      const { bundle, bundles, directory } = yield* smallRepository
      yield* Effect.all([bundle, bundle], { concurrency: 2 })
      const [name = "", ...others] = yield* bundles
      assert.deepStrictEqual(others, [])
      const written = (yield* Effect.promise(() => fs.stat(path.join(directory, name)))).ctimeMs
      yield* bundle
      assert.deepStrictEqual(yield* bundles, [name])
      assert.strictEqual((yield* Effect.promise(() => fs.stat(path.join(directory, name)))).ctimeMs, written)
    })
  )

  it.live("each change of the sources makes another one; the last five stay for the servers that run them", () =>
    Effect.gen(function* () {
      const { bundle, bundles, directory, write } = yield* smallRepository
      yield* bundle
      const [first = ""] = yield* bundles
      yield* write("apps/gateway/src/main.ts", "export const program = 'another'")
      yield* bundle
      const both = yield* bundles
      assert.include(both, first)
      assert.strictEqual(both.length, 2)
      const second = both.find((name) => name !== first) ?? ""
      const { program } = yield* Effect.promise(() => import(path.join(directory, second, "bin/start.js")))
      assert.strictEqual(program, "another")
      for (let change = 0; change < 4; change++) {
        yield* write("apps/identity/templates/code.txt", "{{code}}".repeat(change + 2))
        yield* bundle
      }
      const last = yield* bundles
      assert.strictEqual(last.length, 5)
      assert.notInclude(last, first)
      assert.include(last, second)
    })
  )
})
