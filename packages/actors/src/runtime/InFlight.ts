/**
 * Work that several requests wait for and that runs once: later requests for it share its result. It continues when the
 * client of the first request disconnects.
 */
import { Deferred, Effect, type Scope } from "effect"

export interface InFlight<A, E> {
  /** How many pieces of work are being done. */
  readonly size: () => number
  /** The result of the work under this key. `make` runs if the work is not running yet. */
  readonly once: (key: string, make: Effect.Effect<A, E>) => Effect.Effect<A, E>
}

/** Work ends with the scope. */
export const makeInFlight = <A, E>(scope: Scope.Scope): InFlight<A, E> => {
  const begun = new Map<string, Deferred.Deferred<A, E>>()
  return {
    size: () => begun.size,
    once: (key, make) =>
      Effect.suspend(() => {
        const running = begun.get(key)
        if (running !== undefined) return Deferred.await(running)
        const deferred = Deferred.makeUnsafe<A, E>()
        begun.set(key, deferred)
        const work = Effect.onExit(make, (exit) =>
          Effect.sync(() => {
            begun.delete(key)
            Deferred.doneUnsafe(deferred, exit)
          })
        )
        return Effect.andThen(Effect.forkIn(Effect.ignoreCause(work), scope), Deferred.await(deferred))
      })
  }
}
