/**
 * Runs long computations in slices, so that none blocks the event loop: at most one slice runs per turn of the loop,
 * whatever the number of computations.
 *
 * A computation is a generator that yields wherever it may be interrupted; two yields should be at most a few milliseconds
 * apart.
 */
import { channel } from "node:diagnostics_channel"
import { Effect, Semaphore } from "effect"

/** Publishes when a slice begins (`true`) and ends (`false`). */
export const slices = channel("greenroom.slices")

/** After how many milliseconds of slices in one turn of the event loop the next yield ends a slice. */
const sliceTime = 4

const sliceLock = Semaphore.makeUnsafe(1)

/** The time until which slices may run in this turn of the event loop; undefined before the first one. */
let turnEnd: number | undefined

/** Successive computations of one turn of the event loop share its time. */
const endOfTurn = (): number => {
  if (turnEnd === undefined) {
    turnEnd = performance.now() + sliceTime
    setImmediate(() => {
      turnEnd = undefined
    })
  }
  return turnEnd
}

const slice = <A>(computation: Generator<void, A>): Effect.Effect<IteratorResult<void, A>> =>
  Effect.suspend((): Effect.Effect<IteratorResult<void, A>> => {
    if (slices.hasSubscribers) slices.publish(true)
    const end = endOfTurn()
    let step = computation.next()
    while (step.done !== true && performance.now() < end) step = computation.next()
    if (slices.hasSubscribers) slices.publish(false)
    return step.done === true ? Effect.succeed(step) : Effect.as(Effect.yieldNow, step)
  })

const run = <A>(computation: Generator<void, A>): Effect.Effect<A> =>
  Effect.flatMap(sliceLock.withPermit(slice(computation)), (step) =>
    step.done === true ? Effect.succeed(step.value) : run(computation)
  )

/** Runs a computation slice by slice. An exception is a defect. */
export const sliced = <A>(computation: () => Generator<void, A>): Effect.Effect<A> =>
  Effect.suspend(() => run(computation()))
