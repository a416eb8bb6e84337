/**
 * Load comes from a process of its own, so that it neither waits for the server's event loop nor holds it up. A load
 * program is a module of `load/` that calls `serveLoad`; a benchmark calls it by `runLoad`.
 */
import { type ChildProcess, fork } from "node:child_process"

type Reply<Output> = { readonly output: Output } | { readonly error: string }

const spawnProgram = <Input, Output>(
  file: string,
  input: Input
): { readonly child: ChildProcess; readonly output: Promise<Output> } => {
  const child = fork(new URL(file, import.meta.url), {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    serialization: "json"
  })
  const output = new Promise<Output>((resolve, reject) => {
    child.once("message", (reply: Reply<Output>) => {
      if ("error" in reply) reject(new Error(`${file}: ${reply.error}`))
      else resolve(reply.output)
    })
    child.once("exit", (code) => reject(new Error(`${file} ended with ${code}`)))
  })
  child.send(input as object)
  return { child, output }
}

/** Runs a load program and gives back what it measured. `name` is its file in `load/`, without the ending. */
export const runLoad = async <Input, Output>(name: string, input: Input): Promise<Output> => {
  const { child, output } = spawnProgram<Input, Output>(`./load/${name}.ts`, input)
  return await output.finally(() => child.kill("SIGKILL"))
}

export interface BareServer extends Disposable {
  readonly url: string
  readonly pid: number
}

/** Starts `baseline/BareServer.ts`; disposing of it ends it. */
export const startBareServer = async (): Promise<BareServer> => {
  const { child, output } = spawnProgram<object, string>("./baseline/BareServer.ts", {})
  return { url: await output, pid: child.pid!, [Symbol.dispose]: () => child.kill("SIGKILL") }
}

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
