/**
 * The process that makes thumbnails. It is a process, and no thread, because it decodes hostile files in native code: it
 * can crash alone, it is ended when it takes too long, the system takes its memory back when it rests, and its work waits
 * for that of the server. It is started by the first job and ends when there was none for a while.
 */
import { type ChildProcess, fork } from "node:child_process"
import { Effect, type Scope, Semaphore } from "effect"

/** Paths of files, and what to make. */
export interface ThumbnailJob {
  readonly input: string
  readonly output: string
  readonly width: number
  readonly height: number
  readonly method: "crop" | "scale"
  readonly animated: boolean
}

export type ThumbnailResult =
  | { readonly contentType: string }
  | { readonly problem: "no-image" | "too-large" | "too-slow" | "too-much-memory" | "busy" }

/** The problems with which a job still goes on in the process. */
const unfinished: ReadonlySet<string> = new Set(["too-slow", "too-much-memory", "busy"])

/** A source in the repository, JavaScript in the published package: of the same kind as this file. */
const program = new URL(`./thumbnailProgram${import.meta.url.slice(-3)}`, import.meta.url)

/**
 * How long a job may take, in ms. The process bounds the processor time of a job itself, so that this passes only if the machine
 * has no time for it: the image is not at fault.
 */
const maxTime = 60_000

/** How long the process rests before it ends, in ms. */
const idleTime = 30_000

const start = (): ChildProcess =>
  fork(program, { execArgv: ["--max-old-space-size=64"], env: {}, stdio: ["ignore", "ignore", "ignore", "ipc"] })

/** Runs one job. A process that takes too long has to be ended afterwards. */
const ask = (child: ChildProcess, job: ThumbnailJob, limit: number): Effect.Effect<ThumbnailResult> =>
  Effect.callback<ThumbnailResult>((resume) => {
    const finish = (result: ThumbnailResult) => {
      clearTimeout(timer)
      child.off("message", finish).off("exit", onExit).off("error", onExit)
      resume(Effect.succeed(result))
    }
    const onExit = () => finish({ problem: "no-image" })
    const timer = setTimeout(() => finish({ problem: "busy" }), limit)
    child.on("message", finish).on("exit", onExit).on("error", onExit)
    child.send(job, (error) => {
      if (error !== null) onExit()
    })
  })

/**
 * Makes thumbnails, one at a time. The process ends with the scope.
 *
 * @param limit How long a job may take, in ms.
 */
export const makeThumbnailProcess = Effect.fnUntraced(function* (
  limit = maxTime
): Effect.fn.Return<(job: ThumbnailJob) => Effect.Effect<ThumbnailResult>, never, Scope.Scope> {
  const oneAtATime = yield* Semaphore.make(1)
  let child: ChildProcess | undefined
  let idle: NodeJS.Timeout | undefined

  const end = () => {
    clearTimeout(idle)
    child?.kill("SIGKILL")
    child = undefined
  }
  const running = (): ChildProcess => {
    clearTimeout(idle)
    if (child?.connected) return child
    const started = start()
    started.once("exit", () => {
      if (child === started) child = undefined
    })
    child = started
    return started
  }
  const endIfStuck = (result: ThumbnailResult) => {
    if ("problem" in result && unfinished.has(result.problem)) end()
  }
  const rest = () => {
    idle = setTimeout(end, idleTime).unref()
  }
  yield* Effect.addFinalizer(() => Effect.sync(end))
  return (job) =>
    oneAtATime.withPermits(1)(
      Effect.uninterruptible(
        Effect.ensuring(
          Effect.tap(
            Effect.suspend(() => ask(running(), job, limit)),
            (result) => Effect.sync(() => endIfStuck(result))
          ),
          Effect.sync(rest)
        )
      )
    )
})
