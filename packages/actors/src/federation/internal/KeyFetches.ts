/**
 * Fetches keys of servers from the servers themselves. Concurrent requests for a server's keys share one fetch.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { Effect, Fiber, Semaphore } from "effect"
import { FederationTransport } from "../FederationTransport.ts"
import { type RemoteError, RemoteInvalid } from "../RemoteError.ts"
import { makeKeyDownload } from "./KeyDownload.ts"
import type { KnownKeys } from "./KnownKeys.ts"

/** How many servers are asked at once, so that made-up origins cost little. */
const maxFetches = 64

/** A failure in a few words. */
export const reasonOf = (error: RemoteError): string =>
  error._tag === "RemoteRefused" ? `status ${error.status}` : error.reason

export const makeKeyFetches = Effect.fnUntraced(function* ({ remember }: KnownKeys) {
  const scope = yield* Effect.scope
  const download = makeKeyDownload(yield* FederationTransport)
  const fetches = yield* Semaphore.make(maxFetches)
  /** Servers that are being asked. */
  const running = new Map<ServerName, Fiber.Fiber<string | undefined>>()

  const fetch = Effect.fn("RemoteKeys.fetch")(function* (destination: ServerName) {
    const object = yield* fetches.withPermit(download.own(destination))
    const problem = yield* remember(destination, object)
    if (problem !== undefined) return yield* new RemoteInvalid({ destination, reason: problem })
  })

  /** Asks the server once, for all waiting callers. Gives the failure. */
  const ask = (server: ServerName): Effect.Effect<string | undefined> =>
    Effect.suspend(() => {
      const current = running.get(server)
      if (current !== undefined) return Fiber.join(current)
      const asking = Effect.matchEffect(fetch(server), {
        onSuccess: () => Effect.succeed(undefined),
        onFailure: (error) =>
          Effect.as(
            Effect.logWarning("The keys of a server could not be fetched").pipe(
              Effect.annotateLogs({ destination: server, reason: reasonOf(error) })
            ),
            reasonOf(error)
          )
      })
      const work = Effect.ensuring(
        asking,
        Effect.sync(() => running.delete(server))
      )
      return Effect.flatMap(Effect.forkIn(work, scope), (fiber) => {
        running.set(server, fiber)
        return Fiber.join(fiber)
      })
    })

  return { ask, isAsking: (server: ServerName) => running.has(server) }
})
