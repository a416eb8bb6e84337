/**
 * `greenroom` as an operator runs it: a process for each command.
 */
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { Effect, type Scope } from "effect"

const program = fileURLToPath(new URL("../../apps/gateway/src/admin/main.ts", import.meta.url))

export interface Said {
  readonly code: number | null
  readonly out: string
  readonly error: string
}

/** Runs it with these words, and settings as environment variables. */
export const greenroom = (
  words: ReadonlyArray<string>,
  environment: { readonly [name: string]: string } = {}
): Effect.Effect<Said> =>
  Effect.callback<Said>((resume) => {
    const child = spawn(process.execPath, [program, ...words], {
      stdio: ["ignore", "pipe", "pipe"],
      env: { PATH: process.env.PATH, ...environment }
    })
    const said = { out: "", error: "" }
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      said.out += text
    })
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      said.error += text
    })
    child.once("close", (code) => resume(Effect.succeed({ code, ...said })))
  })

/** Starts it, to be killed at some time. */
export const started = (
  words: ReadonlyArray<string>
): Effect.Effect<{ readonly kill: Effect.Effect<void> }, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(process.execPath, [program, ...words], { stdio: "ignore", env: { PATH: process.env.PATH } })
      const ended = new Promise((resolve) => child.once("close", resolve))
      const kill = Effect.promise(async () => {
        child.kill("SIGKILL")
        await ended
      })
      return { kill }
    }),
    ({ kill }) => kill
  )
