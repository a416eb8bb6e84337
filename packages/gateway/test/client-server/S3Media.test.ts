/**
 * Files in an S3-compatible store: versitygw, a real one, in a process of its own. `.ci/run` builds it where Go is; the
 * test looks for it in the directory of Go's programs.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { randomBytes } from "node:crypto"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import * as path from "node:path"
import { assert, describe, it } from "@effect/vitest"
import * as HomeServer from "@greenroom/actors/HomeServer"
import type { S3Options } from "@greenroom/actors/media/MediaConfig"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Context, Effect, Layer, Redacted } from "effect"
import { Gateway } from "../../src/Gateway.ts"
import { unlimited } from "../../src/Rate.ts"
import { register, serverName } from "../TestGateway.ts"
import { download, png, transfer, upload } from "./TestMedia.ts"

const findProgram = (): string | undefined => {
  try {
    const goPath = execFileSync("go", ["env", "GOPATH"], { encoding: "utf8" }).trim()
    const program = path.join(goPath, "bin", "versitygw")
    return existsSync(program) ? program : undefined
  } catch {
    return undefined
  }
}

const program = findProgram()
if (program === undefined) {
  console.log(
    "S3Media.test: versitygw is not there, so files in an S3-compatible store are not tested. Install Go, then: " +
      "go install github.com/versity/versitygw/cmd/versitygw@latest"
  )
}

const secret = "green-room-secret"

const freePort = Effect.callback<number>((resume) => {
  const server = createServer()
  server.listen(0, "127.0.0.1", () => {
    const { port } = server.address() as { readonly port: number }
    server.close(() => resume(Effect.succeed(port)))
  })
})

/** Ends when the store answers at all. */
const answers = (url: string, child: ChildProcess): Effect.Effect<void> =>
  Effect.tryPromise(() => fetch(url)).pipe(
    Effect.asVoid,
    Effect.retry({ while: () => child.exitCode === null }),
    Effect.orDie
  )

/** A store with an empty bucket, for the scope. */
const makeStore = Effect.gen(function* () {
  const directory = mkdtempSync(path.join(tmpdir(), "greenroom-s3-"))
  yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(directory, { recursive: true, force: true })))
  mkdirSync(path.join(directory, "greenroom"))
  const port = yield* freePort
  const child = spawn(
    program!,
    ["--access", "green", "--secret", secret, "--port", `127.0.0.1:${port}`, "posix", directory],
    { stdio: "ignore" }
  )
  yield* Effect.addFinalizer(() => Effect.sync(() => child.kill("SIGKILL")))
  const endpoint = `http://127.0.0.1:${port}`
  yield* answers(endpoint, child)
  const s3: S3Options = {
    endpoint,
    region: "us-east-1",
    bucket: "greenroom",
    accessKeyId: "green",
    secretAccessKey: Redacted.make(secret),
    prefix: "media/"
  }
  return { s3, objects: () => readdirSync(path.join(directory, "greenroom", "media")) }
})

/** A node on the database of the test, with a directory of its own. */
const makeNode = Effect.fnUntraced(function* (s3: S3Options) {
  const directory = mkdtempSync(path.join(tmpdir(), "greenroom-node-"))
  yield* Effect.addFinalizer(() => Effect.sync(() => rmSync(directory, { recursive: true, force: true })))
  const services = yield* Layer.build(
    Layer.fresh(
      Gateway.layer({ host: "127.0.0.1", port: 0, rates: unlimited }).pipe(
        Layer.provideMerge(HomeServer.layerOnDatabase({ serverName, dataDir: directory, media: { s3 } }))
      )
    )
  )
  const at = Effect.provideService(Gateway, Context.get(services, Gateway))
  return { at, received: () => readdirSync(path.join(directory, "media", "incoming")) }
})

describe.skipIf(program === undefined)("files in an S3-compatible store", () => {
  it.live(
    "are served by every node, whole and by ranges, and are there once",
    () =>
      Effect.gen(function* () {
        const { objects, s3 } = yield* makeStore
        const one = yield* makeNode(s3)
        const two = yield* makeNode(s3)
        const alice = yield* one.at(register("s3-alice"))
        const bytes = randomBytes(3_000_000)
        const file = yield* one.at(upload(alice, bytes, { type: "video/mp4" }))
        yield* two.at(upload(alice, bytes))
        assert.strictEqual(objects().length, 1)
        const whole = yield* two.at(download(alice, file))
        assert.isTrue(whole.bytes.equals(bytes))
        const part = yield* two.at(download(alice, file, { range: "bytes=1000000-1000099" }))
        assert.strictEqual(part.status, 206)
        assert.isTrue(part.bytes.equals(bytes.subarray(1_000_000, 1_000_100)))
        const image = yield* one.at(upload(alice, png, { type: "image/png" }))
        const thumbnail = yield* two.at(
          transfer("GET", `/_matrix/client/v1/media/thumbnail/${image}?width=32&height=32`, { as: alice })
        )
        assert.deepStrictEqual([thumbnail.status, thumbnail.headers.get("content-type")], [200, "image/png"])
        assert.isEmpty(one.received())
        assert.isEmpty(two.received())
      }).pipe(Effect.provide(TestDatabase.layer), Effect.scoped),
    120_000
  )
})
