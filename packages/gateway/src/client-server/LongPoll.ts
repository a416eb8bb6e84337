/**
 * Requests that wait for news: the user is connected meanwhile, and a shutdown ends the waiting.
 *
 * Source: "Syncing" of the client-server specification.
 */
import { Presences } from "@greenroom/actors/presence/Presences"
import type { Session } from "@greenroom/actors/runtime/Session"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Cause, Effect } from "effect"
import { Shutdown } from "../Shutdown.ts"

export interface LongPollRequest {
  readonly session: Session
  /** How long to wait, in ms. */
  readonly timeout: number
  /** What the client says of the user's presence. */
  readonly setPresence: string | null | undefined
}

export const makeLongPoll = Effect.gen(function* () {
  const presences = yield* Presences
  const shutdown = yield* Shutdown

  /** Answers by `poll`, which is given how long it may wait. The user is connected, unless `setPresence` says otherwise. */
  return <A>(
    { session, setPresence, timeout }: LongPollRequest,
    poll: (timeout: number) => Effect.Effect<A, MatrixError>
  ): Effect.Effect<A, MatrixError> => {
    const connected =
      setPresence === "offline" ? Effect.void : presences.connected(session, setPresence === "unavailable")
    if (timeout === 0) return Effect.scoped(Effect.andThen(connected, poll(0)))
    const later = Effect.withFiber<A, MatrixError>((fiber) => {
      const forget = shutdown.onRequest(() => fiber.interruptUnsafe())
      return Effect.ensuring(poll(timeout), Effect.sync(forget))
    })
    return connected.pipe(
      Effect.andThen(Effect.interruptible(later)),
      Effect.catchCause((cause) =>
        Cause.hasInterruptsOnly(cause) && shutdown.isRequested() ? poll(0) : Effect.failCause(cause)
      ),
      Effect.scoped
    )
  }
})
