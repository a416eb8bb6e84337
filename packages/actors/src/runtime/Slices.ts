/**
 * Long computations cut into slices, so that none holds the event loop: at most one slice runs in each turn of the loop,
 * whatever the number of computations. They take turns.
 *
 * A computation is a generator that yields wherever it may be interrupted; between two yields it should take no more than
 * a few milliseconds.
 */
import { channel } from "node:diagnostics_channel"
import { Effect, Semaphore } from "effect"

/** Tells subscribers when a slice begins (`true`) and ends (`false`). */
export const slices = channel("greenroom.slices")

/** How long a slice goes on, in ms, before the next yield ends it. */
const sliceTime = 4

const turn = Semaphore.makeUnsafe(1)

const slice = <A>(computation: Generator<void, A>): Effect.Effect<IteratorResult<void, A>> =>
  Effect.suspend((): Effect.Effect<IteratorResult<void, A>> => {
    if (slices.hasSubscribers) slices.publish(true)
    const end = performance.now() + sliceTime
    let step = computation.next()
    while (step.done !== true && performance.now() < end) step = computation.next()
    if (slices.hasSubscribers) slices.publish(false)
    return step.done === true ? Effect.succeed(step) : Effect.as(Effect.yieldNow, step)
  })

const run = <A>(computation: Generator<void, A>): Effect.Effect<A> =>
  Effect.flatMap(turn.withPermit(slice(computation)), (step) =>
    step.done === true ? Effect.succeed(step.value) : run(computation)
  )

/** Runs a computation slice by slice. What it throws is a defect. */
export const sliced = <A>(computation: () => Generator<void, A>): Effect.Effect<A> =>
  Effect.suspend(() => run(computation()))
