/**
 * Commands of `greenroom`: within the process of the test, which saves the second that a process needs to start, or as a process of the
 * program.
 */
import { spawn } from "node:child_process"
import { fileURLToPath } from "node:url"
import { NodeServices } from "@effect/platform-node"
import { nodeOptions } from "@greenroom/store/testing/TestDns"
import { Console, Effect, Layer, type Scope, Stdio, Stream } from "effect"
import { groups } from "../../src/admin/Groups.ts"
import { commandProgram } from "../../src/admin/RunCommand.ts"
import { name } from "../../src/GreenroomProgram.ts"
import { describeFailure } from "../../src/StartFailure.ts"

export interface CommandResult {
  readonly code: number
  readonly out: string
  readonly error: string
}

/** Runs a command within this process. `input` is a line of standard input. */
export const command = ([group = "", ...args]: ReadonlyArray<string>, input = ""): Effect.Effect<CommandResult> =>
  Effect.gen(function* () {
    const output = { out: "", error: "" }
    const console = Object.assign(Object.create(globalThis.console) as Console.Console, {
      log: (...lines: ReadonlyArray<unknown>) => {
        output.out += `${lines.join(" ")}\n`
      },
      error: (...lines: ReadonlyArray<unknown>) => {
        output.error += `${lines.join(" ")}\n`
      }
    })
    const load = groups[group]?.load
    if (load === undefined) return yield* Effect.die(new Error(`There is no group of commands ${group}`))
    const stdin = Stdio.layerTest({ stdin: Stream.encodeText(Stream.make(`${input}\n`)) })
    const failure = yield* commandProgram(yield* Effect.promise(load), args).pipe(
      Effect.provide(Layer.merge(NodeServices.layer, stdin)),
      Effect.provideService(Console.Console, console),
      Effect.matchCause({ onFailure: (cause) => ({ cause }), onSuccess: () => undefined })
    )
    if (failure === undefined) return { code: 0, ...output }
    const message = describeFailure(failure.cause)
    if (message !== undefined) output.error += `${name}: ${message.replace(/\s*\n\s*/g, " ")}\n`
    return { code: 1, ...output }
  })

const program = fileURLToPath(new URL("../../src/admin/main.ts", import.meta.url))

interface ProgramOptions {
  /** Settings, as environment variables. */
  readonly environment?: { readonly [name: string]: string }
  /** A line of standard input. */
  readonly input?: string
}

/** Runs the program in a process of its own. */
export const greenroom = (
  args: ReadonlyArray<string>,
  { environment = {}, input = "" }: ProgramOptions = {}
): Effect.Effect<CommandResult> =>
  Effect.callback<CommandResult>((resume) => {
    const child = spawn(process.execPath, [program, ...args], {
      env: { PATH: process.env.PATH, NODE_OPTIONS: nodeOptions, ...environment }
    })
    const output = { out: "", error: "" }
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output.out += text
    })
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      output.error += text
    })
    child.once("close", (code) => resume(Effect.succeed({ code: code ?? -1, ...output })))
    child.stdin.end(`${input}\n`)
  })

/** Starts the program, which is killed with `kill` or with the scope. */
export const startGreenroom = (
  args: ReadonlyArray<string>
): Effect.Effect<{ readonly kill: Effect.Effect<void> }, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const child = spawn(process.execPath, [program, ...args], {
        stdio: "ignore",
        env: { PATH: process.env.PATH, NODE_OPTIONS: nodeOptions }
      })
      const ended = new Promise((resolve) => child.once("close", resolve))
      const kill = Effect.promise(async () => {
        child.kill("SIGKILL")
        await ended
      })
      return { kill }
    }),
    ({ kill }) => kill
  )
