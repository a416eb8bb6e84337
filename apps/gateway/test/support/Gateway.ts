/** The gateway as a process, for tests of commands. */
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { fileURLToPath } from "node:url"
import { nodeOptions } from "@greenroom/store/testing/TestDns"
import { Effect, FileSystem, type Scope } from "effect"

const program = fileURLToPath(new URL("../../src/main.ts", import.meta.url))

/** Runs the gateway until the scope closes. Returns its URL. */
export const gateway = (options: ReadonlyArray<string>): Effect.Effect<string, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.callback<{ readonly url: string; readonly stop: Promise<unknown>; readonly kill: () => void }>(
        (resume) => {
          const child = spawn(process.execPath, [program, "--port", "0", "--federation-port", "0", ...options], {
            env: { PATH: process.env.PATH, NODE_OPTIONS: nodeOptions },
            stdio: ["ignore", "pipe", "inherit"]
          })
          const stop = new Promise((resolve) => child.once("close", resolve))
          createInterface(child.stdout).on("line", (line) => {
            const url = /listens on (http:\/\/127\.0\.0\.1:\d+)/.exec(line)?.[1]
            if (url !== undefined) resume(Effect.succeed({ url, stop, kill: () => child.kill() }))
          })
        }
      ),
      ({ kill, stop }) => Effect.promise(() => Promise.resolve(kill()).then(() => stop))
    ),
    ({ url }) => url
  )

const ask = (method: string) => (url: string, body: unknown, token?: string) =>
  Effect.promise(async () => {
    const headers = token === undefined ? {} : { authorization: `Bearer ${token}` }
    const response = await fetch(url, { method, headers, body: JSON.stringify(body) })
    return { status: response.status, body: (await response.json()) as { readonly [key: string]: string } }
  })

export const post = ask("POST")
export const put = ask("PUT")

/** A directory for the scope, which an embedded PostgreSQL can enter. */
export const temporaryDirectory = Effect.flatMap(FileSystem.FileSystem, (fileSystem) =>
  Effect.tap(fileSystem.makeTempDirectoryScoped(), (directory) => fileSystem.chmod(directory, 0o755))
)
