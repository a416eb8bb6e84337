/**
 * `/sync`, as calls of `Sync`.
 *
 * Source: "Syncing" of the client-server specification.
 */
import { Presences } from "@greenroom/actors/presence/Presences"
import type { Session } from "@greenroom/actors/runtime/Session"
import { Sync, type SyncRequest } from "@greenroom/actors/sync/Sync"
import type { SyncAnswer } from "@greenroom/actors/sync/SyncAnswer"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Cause, Effect } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { Shutdown } from "../Shutdown.ts"

/** The name under which older clients ask for and read the state at the end of the timeline. */
const unstableStateAfter = "org.matrix.msc4222.state_after"

const withUnstableName = (answer: SyncAnswer): object => {
  const rename = (rooms: SyncAnswer["rooms"]["join"]) =>
    Object.fromEntries(
      Object.entries(rooms).map(([roomId, { state_after, ...room }]) => [
        roomId,
        state_after === undefined ? room : { ...room, [unstableStateAfter]: state_after }
      ])
    )
  return { ...answer, rooms: { ...answer.rooms, join: rename(answer.rooms.join), leave: rename(answer.rooms.leave) } }
}

export const syncHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.sync", (handlers) =>
  withServices(function* () {
    const sync = yield* Sync
    const presences = yield* Presences
    const shutdown = yield* Shutdown

    /** The user is connected while the request lasts, unless `setPresence` says otherwise. A shutdown ends the waiting. */
    const waiting = (
      session: Session,
      request: SyncRequest,
      setPresence: string | undefined
    ): Effect.Effect<SyncAnswer, MatrixError> => {
      const connected =
        setPresence === "offline" ? Effect.void : presences.connected(session, setPresence === "unavailable")
      const now = sync.sync(session, { ...request, timeout: 0 })
      if (request.timeout === 0) return Effect.scoped(Effect.andThen(connected, now))
      const later = Effect.withFiber<SyncAnswer, MatrixError>((fiber) => {
        const forget = shutdown.onRequest(() => fiber.interruptUnsafe())
        return Effect.ensuring(sync.sync(session, request), Effect.sync(forget))
      })
      return connected.pipe(
        Effect.andThen(Effect.interruptible(later)),
        Effect.catchCause((cause) =>
          Cause.hasInterruptsOnly(cause) && shutdown.isRequested() ? now : Effect.failCause(cause)
        ),
        Effect.scoped
      )
    }

    return handlers.handle(
      "sync",
      ({ query }) =>
        CurrentSession.use((session) => {
          const unstable = query["org.matrix.msc4222.use_state_after"] === "true"
          const request: SyncRequest = {
            since: query.since,
            filter: query.filter,
            fullState: query.full_state === "true",
            useStateAfter: unstable || query.use_state_after === "true",
            timeout: query.timeout ?? 0
          }
          return Effect.map(waiting(session, request, query.set_presence), (answer) =>
            HttpServerResponse.jsonUnsafe(unstable ? withUnstableName(answer) : answer)
          )
        }),
      { uninterruptible: true }
    )
  })
)
