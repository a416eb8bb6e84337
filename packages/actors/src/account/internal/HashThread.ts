/**
 * A thread that hashes passwords, which takes tens of milliseconds each. It keeps this work off the event loop, and on Linux,
 * where threads have their own priorities, runs with a lower one.
 */
import type { Argon2Parameters } from "node:crypto"
import { Worker } from "node:worker_threads"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"

/** Hashes one password at a time. */
export interface HashThread {
  /** The Argon2id hash. A failure is a defect and ends the thread. */
  readonly argon2id: (parameters: Argon2Parameters) => Effect.Effect<Uint8Array>
}

/**
 * The program of the thread. It is text without types and imports only Node's modules, because stripping types would take 20 MB in
 * every thread.
 */
const program = `
const { argon2Sync } = require("node:crypto")
const { constants, setPriority } = require("node:os")
const { parentPort } = require("node:worker_threads")

if (process.platform === "linux") setPriority(constants.priority.PRIORITY_BELOW_NORMAL)
parentPort.on("message", (parameters) => parentPort.postMessage(argon2Sync("argon2id", parameters)))
`

/** Starts a thread; it ends with the scope, and keeps the process alive only while it hashes. */
export const makeHashThread: Effect.Effect<HashThread, never, Scope.Scope> = Effect.map(
  Effect.acquireRelease(
    Effect.sync(() => {
      const worker = new Worker(program, { eval: true, execArgv: [], env: {} })
      worker.unref()
      return worker
    }),
    (worker) => Effect.promise(() => worker.terminate())
  ),
  (worker): HashThread => ({
    argon2id: (parameters) =>
      Effect.uninterruptible(
        Effect.callback<Uint8Array>((resume) => {
          const onMessage = (hash: Uint8Array) => finish(Effect.succeed(hash))
          const onError = (error: unknown) => finish(Effect.die(error))
          const onExit = () => finish(Effect.die(new Error("The thread that hashes passwords has ended")))
          const finish = (result: Effect.Effect<Uint8Array>) => {
            worker.off("message", onMessage).off("error", onError).off("exit", onExit).unref()
            resume(result)
          }
          worker.on("message", onMessage).on("error", onError).on("exit", onExit).ref()
          worker.postMessage(parameters)
        })
      )
  })
)
