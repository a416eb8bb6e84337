/**
 * Requests that wait for updates. The user counts as connected while one waits. A shutdown ends the wait, and so does an
 * administrator who locks or suspends the account.
 *
 * The first request of a client does not wait, and its answer has everything: it counts among the reads of its user.
 *
 * Source: "Syncing" and "Account locking" of the client-server specification.
 */
import type { ServerResponse } from "node:http"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { AccountStandings, lockedError } from "@greenroom/actors/account/AccountStandings"
import { Presences } from "@greenroom/actors/presence/Presences"
import type { Session } from "@greenroom/actors/runtime/Session"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Cause, Context, Effect, type Fiber, Layer } from "effect"
import { HttpServerRequest } from "effect/http"
import { RequestSlots, withSlot } from "../RequestSlots.ts"
import { Shutdown } from "../Shutdown.ts"

/** A request that may wait for updates. */
export interface LongPollRequest {
  readonly session: Session
  /** How long to wait, in ms. */
  readonly timeout: number
  /** The presence that the client sets. */
  readonly setPresence?: string | null | undefined
  /** Whether the answer has everything, and not what is new: such a request does not wait. */
  readonly isWhole?: boolean
}

/** A request that waits. Thousands wait: each keeps little more than this. */
class Waiting {
  isEnded = false
  readonly userId: UserId
  private readonly fiber: Fiber.Fiber<unknown, unknown>

  constructor(userId: UserId, fiber: Fiber.Fiber<unknown, unknown>) {
    this.userId = userId
    this.fiber = fiber
  }

  end(): void {
    this.isEnded = true
    this.fiber.interruptUnsafe()
  }
}

const make = Effect.gen(function* () {
  const presences = yield* Presences
  const shutdown = yield* Shutdown
  const standings = yield* AccountStandings
  const slots = yield* RequestSlots

  const waiting = new Set<Waiting>()
  const endAll = (isConcerned: (wait: Waiting) => boolean) => {
    for (const wait of [...waiting].filter(isConcerned)) wait.end()
  }
  shutdown.onRequest(() => endAll(() => true))
  yield* standings.observe(({ locked, suspended, userId }) => {
    if (locked || suspended) endAll((wait) => wait.userId === userId)
  })

  /** Answers a request among the reads of its user. */
  const asRead = <A>({ session }: LongPollRequest, work: Effect.Effect<A, MatrixError>) =>
    Effect.withFiber<A, MatrixError>((fiber) => {
      const request = Context.getUnsafe(fiber.context, HttpServerRequest.HttpServerRequest)
      const response = NodeHttpServerRequest.toServerResponse(request) as ServerResponse
      return withSlot(slots.enter("reads", session.userId), response, work)
    })

  const poll: LongPolls["Service"]["poll"] = ({ isWhole = false, ...request }, run) =>
    isWhole ? asRead(request, connected(request, run)) : connected(request, run)

  const connected: LongPolls["Service"]["poll"] = ({ session, setPresence, timeout }, run) => {
    const isShown = setPresence !== "offline"
    const connect = isShown ? presences.connect(session, setPresence === "unavailable") : presences.withdraw(session)
    const disconnect = isShown ? presences.disconnect(session) : Effect.void
    if (timeout === 0) return Effect.ensuring(Effect.andThen(connect, run(0)), disconnect)
    const atOnce = () => (standings.of(session.userId).locked ? Effect.fail(lockedError) : run(0))
    return Effect.withFiber((fiber) => {
      const wait = new Waiting(session.userId, fiber)
      waiting.add(wait)
      // Made when it is run: the frame that waits for its end keeps nothing but this function.
      return Effect.suspend(() => Effect.andThen(connect, Effect.interruptible(run(timeout)))).pipe(
        Effect.catchCause((cause) =>
          Cause.hasInterruptsOnly(cause) && wait.isEnded ? atOnce() : Effect.failCause(cause)
        ),
        Effect.onExit(() => {
          waiting.delete(wait)
          return disconnect
        })
      )
    })
  }

  return LongPolls.of({ poll })
})

/** Runs requests that wait for updates. */
export class LongPolls extends Context.Service<
  LongPolls,
  {
    /**
     * Runs `run` with the time for which it may wait. The user is connected meanwhile, unless `setPresence` says otherwise. The caller is
     * not interruptible; the wait is.
     */
    readonly poll: <A>(
      request: LongPollRequest,
      run: (timeout: number) => Effect.Effect<A, MatrixError>
    ) => Effect.Effect<A, MatrixError>
  }
>()("greenroom/gateway/LongPolls") {
  static readonly layer = Layer.effect(LongPolls, make)
}
