/**
 * Fetches keys of servers from the servers themselves. Concurrent requests for a server's keys share one fetch.
 *
 * Anybody can name made-up servers, thousands of them in one list of PDUs, each of which may stay silent. Callers wait for their turn, so
 * that nothing is left to fetch when they give up. Servers that answered last have turns of their own, and so have servers that make
 * requests.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { setNewest } from "@greenroom/store/BoundedMap"
import { Effect, Fiber, PartitionedSemaphore, Record } from "effect"
import { FederationTransport } from "../FederationTransport.ts"
import { type RemoteError, RemoteInvalid } from "../RemoteError.ts"
import { makeKeyDownload } from "./KeyDownload.ts"
import type { KnownKeys } from "./KnownKeys.ts"

/** How many servers are asked at once for each use: of those that answered last, and as many of the others. */
const maxFetches = {
  /** A request of the server itself, or of somebody who names it. */
  request: 64,
  /** Its PDUs, which others may have sent. */
  PDUs: 64,
  /** Others want to know its keys from us. */
  query: 16
}

/** For what the keys are needed. */
export type KeyUse = keyof typeof maxFetches

/** How many servers are remembered whose last fetch failed. */
const maxAway = 20_000

/** The outcome of a fetch. */
export interface Fetched {
  /** Why it failed. */
  readonly problem: string | undefined
  /** Whether this caller began it. */
  readonly isOwn: boolean
}

/** A failure in a few words. */
export const reasonOf = (error: RemoteError): string =>
  error._tag === "RemoteRefused" ? `status ${error.status}` : error.reason

const makeTurns = () =>
  Record.map(maxFetches, (permits) => ({
    renewal: PartitionedSemaphore.makeUnsafe<unknown>({ permits }),
    discovery: PartitionedSemaphore.makeUnsafe<unknown>({ permits })
  }))

/** `failed` notes a fetch that brought no keys, also where its callers have given up by then. */
export const makeKeyFetches = Effect.fnUntraced(function* (
  { keysOf, remember }: KnownKeys,
  failed: (server: ServerName) => Effect.Effect<void>
) {
  const scope = yield* Effect.scope
  const download = makeKeyDownload(yield* FederationTransport)
  const turns = makeTurns()
  /** Servers whose last fetch failed. */
  const away = new Map<ServerName, true>()
  /** Servers that are being asked. */
  const running = new Map<ServerName, Fiber.Fiber<string | undefined>>()

  const fetch = Effect.fn("RemoteKeys.fetch")(function* (destination: ServerName) {
    const object = yield* download.own(destination)
    const problem = yield* remember(destination, object)
    if (problem !== undefined) return yield* new RemoteInvalid({ destination, reason: problem })
  })

  /** Begins a fetch, which ends though its callers give up: others may need the keys. `after` follows it. */
  const begin = Effect.fnUntraced(function* (server: ServerName, after: Effect.Effect<unknown>) {
    const asking = Effect.matchEffect(fetch(server), {
      onSuccess: () => {
        away.delete(server)
        return Effect.succeed(undefined)
      },
      onFailure: (error) => {
        setNewest(away, server, true, maxAway)
        return Effect.logWarning("The keys of a server could not be fetched").pipe(
          Effect.annotateLogs({ destination: server, reason: reasonOf(error) }),
          Effect.andThen(failed(server)),
          Effect.as(reasonOf(error))
        )
      }
    })
    const forgotten = Effect.sync(() => running.delete(server))
    const work = Effect.ensuring(Effect.interruptible(asking), Effect.andThen(forgotten, after))
    const fiber = yield* Effect.forkIn(work, scope)
    running.set(server, fiber)
    return fiber
  })

  const join = (fiber: Fiber.Fiber<string | undefined>, isOwn: boolean): Effect.Effect<Fetched> =>
    Effect.map(Fiber.join(fiber), (problem) => ({ problem, isOwn }))

  /** Whether the server has given its keys when it was asked last. One that never did may be made up. */
  const hasAnswered = (server: ServerName): Effect.Effect<boolean> =>
    Effect.map(keysOf(server), ({ metAt }) => Number.isFinite(metAt) && !away.has(server))

  /** Asks the server once, for all waiting callers. Those of each `owner` wait for their turn together. */
  const ask = (server: ServerName, use: KeyUse, owner: unknown = server): Effect.Effect<Fetched> =>
    Effect.flatMap(hasAnswered(server), (isRenewal) => {
      const current = running.get(server)
      if (current !== undefined) return join(current, false)
      const { release, take } = isRenewal ? turns[use].renewal : turns[use].discovery
      return Effect.uninterruptibleMask((restore) =>
        Effect.gen(function* () {
          yield* restore(take(owner, 1))
          const begun = running.get(server)
          if (begun === undefined) return yield* restore(join(yield* begin(server, release(1)), true))
          yield* release(1)
          return yield* restore(join(begun, false))
        })
      )
    })

  return {
    ask,
    isAsking: (server: ServerName) => running.has(server),
    hasAnswered
  }
})
