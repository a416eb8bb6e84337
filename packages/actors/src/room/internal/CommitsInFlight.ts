/**
 * Commits of which a few are under way at a time: the next one is made while the database stores those before it.
 */
import type { CommitFailed, StaleWriter } from "@greenroom/store/EventLog"
import { Effect } from "effect"

type Durable = Effect.Effect<void, StaleWriter | CommitFailed>

/** The most commits under way. */
const most = 2

export interface CommitsInFlight {
  /** Adds a commit that was queued; waits for the oldest one if there are too many. */
  readonly add: (durable: Durable) => Durable
  /** Waits for all of them. */
  readonly all: Durable
}

export const makeCommitsInFlight = (): CommitsInFlight => {
  const waiting: Array<Durable> = []
  return {
    add: (durable) =>
      Effect.suspend(() => {
        waiting.push(durable)
        return waiting.length > most ? waiting.shift()! : Effect.void
      }),
    all: Effect.suspend(() => Effect.all(waiting.splice(0), { discard: true }))
  }
}
