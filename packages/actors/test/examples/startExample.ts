/**
 * Starts a program of `packages/actors/examples` in a process of its own.
 */
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { nodeOptions } from "@greenroom/store/testing/TestDns"
import { Effect } from "effect"

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
