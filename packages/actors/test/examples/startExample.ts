/**
 * Starts a program of `packages/actors/examples` in a process of its own.
 */
import { spawn } from "node:child_process"
import * as fs from "node:fs/promises"
import * as os from "node:os"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { nodeOptions } from "@greenroom/store/testing/TestDns"
import { Effect } from "effect"

/** A directory that goes with the scope. PostgreSQL, which does not run as root, must be able to walk through it. */
export const temporaryDirectory = Effect.acquireRelease(
  Effect.promise(async () => {
    const directory = await fs.mkdtemp(path.join(os.tmpdir(), "greenroom-example-"))
    await fs.chmod(directory, 0o711)
    return directory
  }),
  (directory) => Effect.promise(() => fs.rm(directory, { recursive: true, force: true }))
)

/** The program ends with the scope. */
export const startExample = (
  name: string,
  args: ReadonlyArray<string>,
  environment: { readonly [name: string]: string } = {}
) =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const program = fileURLToPath(new URL(`../../examples/${name}.ts`, import.meta.url))
      const child = spawn(process.execPath, [program, ...args], {
        stdio: ["pipe", "pipe", "inherit"],
        env: { ...process.env, NODE_OPTIONS: nodeOptions, ...environment }
      })
      let output = ""
      child.stdout.setEncoding("utf8").on("data", (chunk) => {
        output += chunk
      })
      const closed = new Promise<number | null>((resolve) => child.once("close", resolve))
      return {
        child,
        output: () => output,
        write: (text: string) => child.stdin.write(text),
        end: (text: string) => child.stdin.end(text),
        /** The exit code. */
        exit: Effect.promise(() => closed),
        /** Waits until what was written fulfils the condition. */
        until: (condition: (output: string) => boolean) =>
          Effect.callback<void>((resume) => {
            const check = () => {
              if (condition(output)) resume(Effect.void)
            }
            const timer = setInterval(check, 100)
            child.stdout.on("data", check)
            closed.then(() => resume(Effect.die(new Error(`${name} ended: ${output}`))))
            return Effect.sync(() => {
              clearInterval(timer)
              child.stdout.off("data", check)
            })
          })
      }
    }),
    ({ child, exit }) =>
      Effect.suspend(() => {
        child.kill("SIGTERM")
        return exit
      })
  )
