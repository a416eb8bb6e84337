/**
 * Limits the requests to one destination: how many run at a time, how many wait, and for how long. Further ones fail, so that a
 * slow server does not hold up an unbounded number of requests.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Effect, Semaphore } from "effect"
import { RemoteUnreachable } from "../RemoteError.ts"

const atOnce = 8
const inAll = 256

interface Entry {
  readonly semaphore: Semaphore.Semaphore
  users: number
}

export const makeDestinationLimit = () => {
  const entries = new Map<ServerName, Entry>()

  const enter = (destination: ServerName): Effect.Effect<Entry, RemoteUnreachable> =>
    Effect.suspend(() => {
      const entry = entries.get(destination) ?? { semaphore: Semaphore.makeUnsafe(atOnce), users: 0 }
      if (entry.users >= inAll) {
        return Effect.fail(
          new RemoteUnreachable({ destination, reason: "too many requests to it wait already", isOwnLimit: true })
        )
      }
      entry.users++
      entries.set(destination, entry)
      return Effect.succeed(entry)
    })

  const leave = (destination: ServerName, entry: Entry) =>
    Effect.sync(() => {
      entry.users--
      if (entry.users === 0) entries.delete(destination)
    })

  /** Fails if the effect has not begun after so many ms. */
  const inTurn = <A, E, R>(
    destination: ServerName,
    { semaphore, users }: Entry,
    effect: Effect.Effect<A, E, R>,
    longestWait: number
  ): Effect.Effect<A, E | RemoteUnreachable, R> => {
    if (users <= atOnce) return semaphore.withPermit(effect)
    let hasBegun = false
    const begun = Effect.suspend(() => {
      hasBegun = true
      return effect
    })
    const reason = `other requests to it took longer than ${longestWait} ms`
    const late = Effect.suspend(() =>
      hasBegun ? Effect.never : Effect.fail(new RemoteUnreachable({ destination, reason, isOwnLimit: true }))
    )
    return Effect.raceFirst(semaphore.withPermit(begun), Effect.andThen(Effect.sleep(longestWait), late))
  }

  /** `longestWait` is how long the effect may wait for its turn, in ms. */
  return <A, E, R>(
    destination: ServerName,
    effect: Effect.Effect<A, E, R>,
    longestWait: number
  ): Effect.Effect<A, E | RemoteUnreachable, R> =>
    Effect.acquireUseRelease(
      enter(destination),
      (entry) => inTurn(destination, entry, effect, longestWait),
      (entry) => leave(destination, entry)
    )
}
