/**
 * Background work that can wait, such as indexing, in pieces: it takes a small part of the time, and less while the node works for
 * clients and other servers, which the event loop tells.
 */
import { type EventLoopUtilization, performance } from "node:perf_hooks"
import { Duration, Effect } from "effect"

/** From which part of the time on in which the event loop works the node counts as busy. */
const busyUtilization = 0.1

/** How often a long break looks whether the node rests, in ms. */
const breakPart = 1_000

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

/**
 * Runs a piece of work and then takes a break, so that the work takes its share of the time. A break in which the node is busy is as long as
 * the share of a busy node asks, and ends with a second of rest.
 */
export const inSpareTime = Effect.fnUntraced(function* <A, E, R>(
  work: Effect.Effect<A, E, R>,
  shares: (result: A) => Shares
) {
  const [took, result] = yield* Effect.timed(work)
  const { atRest, busy } = shares(result)
  const breakFor = (share: number) => Duration.toMillis(took) * (1 / share - 1)
  let left = breakFor(atRest)
  for (let rested = 0; left > 0; ) {
    const part = Math.min(breakPart, left)
    const before = performance.eventLoopUtilization()
    yield* Effect.sleep(part)
    rested += part
    left = breakFor(isBusySince(before) ? busy : atRest) - rested
  }
  return result
})
