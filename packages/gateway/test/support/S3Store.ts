/**
 * An S3-compatible store: versitygw, a real one, in a process of its own. `.ci/run` builds it where Go is; it is looked for in the
 * directory of Go's programs.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import * as path from "node:path"
import type { S3Options } from "@greenroom/actors/media/MediaConfig"
import { Effect, Redacted } from "effect"

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

/** Whether there is such a program here. */
export const hasS3Store = program !== undefined
if (!hasS3Store) {
  console.log(
    "versitygw is not there, so files in an S3-compatible store are not tested. Install Go, then: " +
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
export const s3Store = Effect.gen(function* () {
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
