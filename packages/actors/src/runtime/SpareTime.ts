/**
 * Background work that can wait, such as indexing, in pieces: it takes a small part of the time, and less while the node works for
 * clients and other servers, which the event loop tells.
 */
import { type EventLoopUtilization, performance } from "node:perf_hooks"
import { Duration, Effect } from "effect"

/** From which part of the time on in which the event loop works the node counts as busy. */
const busyUtilization = 0.1

/** How long a break lasts at most, so that a pause of the node is noticed. */
const longestBreak = Duration.seconds(1)

/** How long the node must have rested for a pause, and how long work waits for one at most. */
const shortestPause = Duration.seconds(1)
const longestWait = Duration.seconds(30)

/** The parts of the time that the work takes, above 0 and up to 1. */
export interface Shares {
  readonly atRest: number
  readonly busy: number
}

const isBusySince = (before: EventLoopUtilization): boolean =>
  performance.eventLoopUtilization(before).utilization >= busyUtilization

/** Waits until the node has rested for a second, and at most for `longest`. */
export const pauseWithin = (longest: Duration.Input): Effect.Effect<void> =>
  Effect.suspend(() => {
    const before = performance.eventLoopUtilization()
    return Effect.map(Effect.sleep(shortestPause), () => !isBusySince(before))
  }).pipe(Effect.repeat({ until: (hasRested) => hasRested }), Effect.timeoutOption(longest), Effect.asVoid)

/** Waits for a time, so that what was sent is delivered first, and then up to 30 s for a pause of the node. */
export const pauseAfter = (delay: Duration.Input): Effect.Effect<void> =>
  Effect.andThen(Effect.sleep(delay), pauseWithin(longestWait))

/** Makes what runs a piece of work and then takes a break. Its length follows from what the node did in the last break. */
export const makeSpareTime = Effect.sync(() => {
  let isBusy = true
  return <A, E, R>(work: Effect.Effect<A, E, R>, shares: (result: A) => Shares): Effect.Effect<A, E, R> =>
    Effect.gen(function* () {
      const [took, result] = yield* Effect.timed(work)
      const { atRest, busy } = shares(result)
      const before = performance.eventLoopUtilization()
      yield* Effect.sleep(Duration.min(longestBreak, Duration.times(took, 1 / (isBusy ? busy : atRest) - 1)))
      isBusy = isBusySince(before)
      return result
    })
})
