/**
 * The back-off of another server: how long nothing is sent to it. `Destinations` knows that of a server that cannot be reached, for all
 * nodes; that of a server that answers with errors is known here alone. Used by the Peer actor.
 */
import type { ServerName } from "@greenroom/protocol/Identifiers"
import { monotonicMillis } from "@greenroom/store/MonotonicClock"
import { Clock, Effect } from "effect"
import { Destinations } from "../Destinations.ts"
import type { RemoteUnreachable } from "../RemoteError.ts"
import type { PeerQueue } from "./PeerQueue.ts"

/** The shortest wait after an attempt that reached no server, in milliseconds. */
const shortestWait = 500

/** The back-off of `destination`, from that which `Destinations` has. */
export const makePeerBackoff = Effect.fnUntraced(function* (destination: ServerName, queue: PeerQueue) {
  const destinations = yield* Destinations

  const millisUntil = (time: number) => Effect.map(Clock.currentTimeMillis, (now) => Math.max(0, time - now))

  /** The remaining back-off that all nodes know, in ms; 0 without one. */
  const shared = Effect.matchEffect(destinations.check(destination), {
    onSuccess: () => Effect.succeed(0),
    onFailure: ({ retryAt = 0 }) => millisUntil(retryAt)
  })

  const initial = yield* shared
  /** The end of the back-off, by the monotonic clock. */
  let end = initial === 0 ? 0 : (yield* monotonicMillis) + initial
  /** Whether the last attempt reached no server. */
  let unreachable = initial > 0

  /** Nothing is sent for so many ms. Typing and presence for the server are dropped. */
  const begin = (duration: number) =>
    Effect.map(monotonicMillis, (now) => {
      queue.drop()
      // Commits and receipts during this time do not wake the actor.
      queue.noteAll()
      end = now + duration
    })

  return {
    begin,

    /** The server was not reached: `Destinations` has logged why. */
    beginUnreachable: Effect.fnUntraced(function* ({ retryAt }: RemoteUnreachable) {
      unreachable = true
      const wait = retryAt === undefined ? yield* shared : yield* millisUntil(retryAt)
      yield* begin(Math.max(wait, shortestWait))
    }),

    /** Ends the back-off, since the server was heard from. */
    end: () => {
      end = 0
      queue.noteAll()
    },

    /** The rest of the back-off at `now`, by the monotonic clock, in ms; 0 without one. */
    restAt: (now: number): number => Math.max(0, end - now),

    /** Runs `probe` if the last attempt reached no server, so that nothing is signed for a server that is still away. */
    reach: <E, R>(probe: Effect.Effect<unknown, E, R>): Effect.Effect<void, E, R> =>
      Effect.suspend(() =>
        unreachable
          ? Effect.map(probe, () => {
              unreachable = false
            })
          : Effect.void
      )
  }
})

/** What `makePeerBackoff` makes. */
export type PeerBackoff = Effect.Success<ReturnType<typeof makePeerBackoff>>
