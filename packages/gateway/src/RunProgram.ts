/**
 * Runs a program of Greenroom as this process: a failure is one line on stderr and the exit code 1, SIGTERM and SIGINT
 * end it in order with 0, and at the latest when `shutdownDeadline` has passed.
 */
import { Worker } from "node:worker_threads"
import * as NodeRuntime from "@effect/platform-node/NodeRuntime"
import * as Cause from "effect/Cause"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { printError } from "./SettingsCommand.ts"

/**
 * How long the process may take to end after a signal, in ms. It leaves a second of the promised ten for a signal that
 * arrives while the event loop is busy.
 */
const shutdownDeadline = 8_000

/** How much later the process is killed if it is too busy to notice the deadline, in ms. */
const killDelay = 1_000

/** Kills this process from a thread of its own, which runs whatever the main thread does. */
const killAfter = (milliseconds: number): void => {
  const code = `setTimeout(() => process.kill(process.pid, "SIGKILL"), ${milliseconds})`
  new Worker(code, { eval: true }).on("error", () => undefined).unref()
}

let isEnding = false

/** Ends this process when the deadline has passed, by itself or by force. For a program that begins to shut down. */
export const startDeadline = (name: string, deadline: number = shutdownDeadline): void => {
  if (isEnding) return
  isEnding = true
  const exit = () => {
    console.error(`${name}: cut off work that did not end within ${deadline / 1_000} seconds`)
    process.exit(1)
  }
  setTimeout(exit, deadline).unref()
  killAfter(deadline + killDelay)
}

/** Ends this process, which shuts down, at once: what is left of that cannot be done. `message` is the line for the operator. */
export const cutShort = (name: string, message: string, code: 0 | 1): void => {
  console.error(`${name}: ${message}`)
  process.exit(code)
}

/** Keeps the program running when the reader of its output disconnects. */
const outliveReaders = (): void => {
  const onError = (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error
  }
  process.stdout.on("error", onError)
  process.stderr.on("error", onError)
}

/** `describeFailure` gives the line for the operator; undefined if nothing failed, or if it was reported already. */
export const runProgram = <E>(
  name: string,
  program: Effect.Effect<void, E>,
  describeFailure: (cause: Cause.Cause<E>) => string | undefined,
  deadline: number = shutdownDeadline
): void => {
  const onSignal = () => startDeadline(name, deadline)
  process.on("SIGTERM", onSignal).on("SIGINT", onSignal)
  outliveReaders()
  const reported = Effect.tapCause(program, (cause) => {
    const message = describeFailure(cause)
    return message === undefined ? Effect.void : printError(name, message)
  })
  NodeRuntime.runMain(reported, {
    disableErrorReporting: true,
    teardown: (exit, onExit) => onExit(Exit.isSuccess(exit) || Cause.hasInterruptsOnly(exit.cause) ? 0 : 1)
  })
}
