/**
 * versitygw, an S3-compatible store, in a process of its own. `.ci/run` builds it with Go, in the program directory of Go.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { existsSync, mkdirSync, readdirSync } from "node:fs"
import * as path from "node:path"
import type { S3Options } from "@greenroom/actors/media/MediaConfig"
import { freePort } from "@greenroom/store/testing/FreePort"
import { temporaryDirectory } from "@greenroom/store/testing/Loopback"
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

/** Whether versitygw is installed. */
export const hasS3Store = program !== undefined
if (!hasS3Store) {
  console.log(
    "versitygw is not installed, so files in an S3-compatible store are not tested. Install Go, then run: " +
      "go install github.com/versity/versitygw/cmd/versitygw@latest"
  )
}

const secret = "green-room-secret"

/** Waits until the store answers. */
const answers = (url: string, child: ChildProcess): Effect.Effect<void> =>
  Effect.tryPromise(() => fetch(url)).pipe(
    Effect.asVoid,
    Effect.retry({ while: () => child.exitCode === null }),
    Effect.orDie
  )

/** A store with an empty bucket. */
export const s3Store = Effect.gen(function* () {
  const directory = yield* temporaryDirectory("s3")
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
