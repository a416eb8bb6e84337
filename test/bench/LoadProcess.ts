/**
 * Load comes from a process of its own, so that it neither waits for the server's event loop nor holds it up. A load
 * program is a module of `load/` that calls `serveLoad`; a benchmark calls it by `runLoad`.
 */
import { fork } from "node:child_process"

type Reply<Output> = { readonly output: Output } | { readonly error: string }

/** Runs a load program and gives back what it measured. `name` is its file in `load/`, without the ending. */
export const runLoad = <Input, Output>(name: string, input: Input): Promise<Output> =>
  new Promise((resolve, reject) => {
    const child = fork(new URL(`./load/${name}.ts`, import.meta.url), {
      stdio: ["ignore", "inherit", "inherit", "ipc"],
      serialization: "json"
    })
    child.once("message", (reply: Reply<Output>) => {
      if ("error" in reply) reject(new Error(`${name}: ${reply.error}`))
      else resolve(reply.output)
      child.kill("SIGKILL")
    })
    child.once("exit", (code) => reject(new Error(`The load program ${name} ended with ${code}`)))
    child.send(input as object)
  })

/** In a load program: what to do with the input. */
export const serveLoad = <Input, Output>(load: (input: Input) => Promise<Output>): void => {
  const answer = (reply: Reply<Output>) => process.send?.(reply)
  process.once("message", (input: Input) => {
    load(input).then(
      (output) => answer({ output }),
      (error: Error) => answer({ error: error.stack ?? String(error) })
    )
  })
}
