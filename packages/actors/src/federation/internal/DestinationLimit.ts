/**
 * How many requests go to one destination at a time, and how many wait for their turn. Beyond that they fail at once, so
 * that a slow server holds no more of ours than that.
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
        return Effect.fail(new RemoteUnreachable({ destination, reason: "too many requests to it wait already" }))
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

  return <A, E, R>(
    destination: ServerName,
    effect: Effect.Effect<A, E, R>
  ): Effect.Effect<A, E | RemoteUnreachable, R> =>
    Effect.acquireUseRelease(
      enter(destination),
      (entry) => entry.semaphore.withPermit(effect),
      (entry) => leave(destination, entry)
    )
}
