/**
 * Effect's `Cache` with lifetimes by the monotonic clock. Effect's own uses the system's clock: when that is set back by an hour, an
 * entry, or a cached failure, would live for an hour longer.
 */
import * as Cache from "effect/Cache"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import { monotonicMillis } from "./MonotonicClock.ts"

interface Entry<A, E> {
  readonly exit: Exit.Exit<A, E>
  readonly madeAt: number
  readonly expiresAt: number
}

/** Whether an entry is fresh. One that was made since `now` is, however short its lifetime. */
const isFresh = ({ expiresAt, madeAt }: Entry<unknown, unknown>, now: number): boolean =>
  madeAt >= now || expiresAt > now

export interface MonotonicCache<Key, A, E = never> {
  readonly entries: Cache.Cache<Key, Entry<A, E>>
  readonly lifetime: (exit: Exit.Exit<A, E>) => number
}

/** As `Cache.makeWith`. Interrupted lookups are not cached. */
export const makeWith = <Key, A, E = never>(
  lookup: (key: Key) => Effect.Effect<A, E>,
  options: { readonly capacity: number; readonly timeToLive: (exit: Exit.Exit<A, E>) => Duration.Input }
): Effect.Effect<MonotonicCache<Key, A, E>> => {
  const lifetime = (exit: Exit.Exit<A, E>) =>
    Exit.hasInterrupts(exit) ? 0 : Duration.toMillis(options.timeToLive(exit))
  const entry = (exit: Exit.Exit<A, E>) =>
    Effect.map(monotonicMillis, (now): Entry<A, E> => ({ exit, madeAt: now, expiresAt: now + lifetime(exit) }))
  return Effect.map(
    Cache.make({ capacity: options.capacity, lookup: (key: Key) => Effect.flatMap(Effect.exit(lookup(key)), entry) }),
    (entries) => ({ entries, lifetime })
  )
}

/** As `Cache.make`. */
export const make = <Key, A, E = never>(options: {
  readonly lookup: (key: Key) => Effect.Effect<A, E>
  readonly capacity: number
  readonly timeToLive: Duration.Input
}): Effect.Effect<MonotonicCache<Key, A, E>> =>
  makeWith(options.lookup, { capacity: options.capacity, timeToLive: () => options.timeToLive })

/** The value of a key, looked up if it is not there or has expired. */
export const get = <Key, A, E>({ entries }: MonotonicCache<Key, A, E>, key: Key): Effect.Effect<A, E> =>
  Effect.flatMap(monotonicMillis, (now) =>
    Effect.flatMap(Cache.get(entries, key), (found) =>
      isFresh(found, now)
        ? found.exit
        : Effect.andThen(
            Cache.invalidateWhen(entries, key, (entry) => entry === found),
            Effect.flatMap(Cache.get(entries, key), ({ exit }) => exit)
          )
    )
  )

/** True if a key has a value that has not expired. */
export const has = <Key, A, E>({ entries }: MonotonicCache<Key, A, E>, key: Key): Effect.Effect<boolean> =>
  Effect.map(
    Effect.all([Cache.getSuccess(entries, key), monotonicMillis]),
    ([found, now]) => found._tag === "Some" && isFresh(found.value, now)
  )

export const set = <Key, A, E>(
  { entries, lifetime }: MonotonicCache<Key, A, E>,
  key: Key,
  value: A
): Effect.Effect<void> =>
  Effect.flatMap(monotonicMillis, (now) => {
    const exit = Exit.succeed(value)
    return Cache.set(entries, key, { exit, madeAt: now, expiresAt: now + lifetime(exit) })
  })

export const invalidate = <Key, A, E>({ entries }: MonotonicCache<Key, A, E>, key: Key): Effect.Effect<void> =>
  Cache.invalidate(entries, key)
