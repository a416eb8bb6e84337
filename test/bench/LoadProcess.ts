/**
 * Load comes from a process of its own, so that it neither waits for the server's event loop nor holds it up. A load
 * program is a module of `load/` that calls `serveLoad`; a benchmark calls it by `runLoad`.
 */
import { fork } from "node:child_process"
import { once } from "node:events"

type Reply<Output> = { readonly output: Output } | { readonly error: string }

/** A load program that is running. It handles one input after another; disposing of it ends it. */
export interface LoadProgram<Input, Output> extends Disposable {
  readonly pid: number
  readonly run: (input: Input) => Promise<Output>
}

const startProgram = <Input, Output>(
  file: string,
  nodeOptions: ReadonlyArray<string> = []
): LoadProgram<Input, Output> => {
  const child = fork(new URL(file, import.meta.url), {
    execArgv: [...process.execArgv, ...nodeOptions],
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    serialization: "json"
  })
  const run = async (input: Input): Promise<Output> => {
    const over = new AbortController()
    const ended = once(child, "exit", over).then(([code]): Reply<Output> => ({ error: `ended with ${code}` }))
    const replied = once(child, "message", over).then(([reply]) => reply as Reply<Output>)
    child.send(input as object)
    const reply = await Promise.race([replied, ended])
    over.abort()
    await Promise.allSettled([replied, ended])
    if ("error" in reply) throw new Error(`${file}: ${reply.error}`)
    return reply.output
  }
  return { pid: child.pid!, run, [Symbol.dispose]: () => child.kill("SIGKILL") }
}

/** Starts a load program, whose code is compiled once for all its runs. `name` is its file in `load/`, without the ending. */
export const startLoad = <Input, Output>(
  name: string,
  nodeOptions: ReadonlyArray<string> = []
): LoadProgram<Input, Output> => startProgram(`./load/${name}.ts`, nodeOptions)

/** Runs a load program once and gives back what it measured. */
export const runLoad = async <Input, Output>(name: string, input: Input): Promise<Output> => {
  using program = startLoad<Input, Output>(name)
  return await program.run(input)
}

export interface BareServer extends Disposable {
  readonly url: string
  readonly pid: number
}

/** Starts `baseline/BareServer.ts`; disposing of it ends it. */
export const startBareServer = async (): Promise<BareServer> => {
  const program = startProgram<object, string>("./baseline/BareServer.ts")
  return { ...program, url: await program.run({}) }
}

/** In a load program: what to do with each input. */
export const serveLoad = <Input, Output>(load: (input: Input) => Promise<Output>): void => {
  const answer = (reply: Reply<Output>) => process.send?.(reply)
  process.on("message", (input: Input) => {
    load(input).then(
      (output) => answer({ output }),
      (error: Error) => answer({ error: error.stack ?? String(error) })
    )
  })
}
