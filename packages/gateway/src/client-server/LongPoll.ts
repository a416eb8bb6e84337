/**
 * Requests that wait for updates. The user counts as connected while one waits. A shutdown ends the wait, and so does an
 * administrator who locks or suspends the account.
 *
 * Source: "Syncing" and "Account locking" of the client-server specification.
 */
import { AccountStandings, lockedError } from "@greenroom/actors/account/AccountStandings"
import { Presences } from "@greenroom/actors/presence/Presences"
import type { Session } from "@greenroom/actors/runtime/Session"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Cause, Effect } from "effect"
import { Shutdown } from "../Shutdown.ts"

export interface LongPollRequest {
  readonly session: Session
  /** How long to wait, in ms. */
  readonly timeout: number
  /** The presence that the client sets. */
  readonly setPresence?: string | null | undefined
}

export const makeLongPoll = Effect.gen(function* () {
  const presences = yield* Presences
  const shutdown = yield* Shutdown
  const standings = yield* AccountStandings

  /** Runs `poll` with the time for which it may wait. The user is connected meanwhile, unless `setPresence` says otherwise. */
  return <A>(
    { session, setPresence, timeout }: LongPollRequest,
    poll: (timeout: number) => Effect.Effect<A, MatrixError>
  ): Effect.Effect<A, MatrixError> => {
    const connected =
      setPresence === "offline"
        ? presences.withdraw(session)
        : presences.connected(session, setPresence === "unavailable")
    if (timeout === 0) return Effect.scoped(Effect.andThen(connected, poll(0)))
    let isEnded = false
    const later = Effect.withFiber<A, MatrixError>((fiber) => {
      const end = () => {
        isEnded = true
        fiber.interruptUnsafe()
      }
      const forget = shutdown.onRequest(end)
      const forgetStanding = standings.onChange(session.userId, ({ locked, suspended }) => {
        if (locked || suspended) end()
      })
      const forgetAll = Effect.sync(() => {
        forget()
        forgetStanding()
      })
      return Effect.ensuring(poll(timeout), forgetAll)
    })
    const atOnce = () => (standings.of(session.userId).locked ? Effect.fail(lockedError) : poll(0))
    // Made when it is run: the frame that waits for its end keeps nothing but this function.
    return Effect.suspend(() => Effect.andThen(connected, Effect.interruptible(later))).pipe(
      Effect.catchCause((cause) => (Cause.hasInterruptsOnly(cause) && isEnded ? atOnce() : Effect.failCause(cause))),
      Effect.scoped
    )
  }
})
