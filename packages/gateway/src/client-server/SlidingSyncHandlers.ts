/**
 * Simplified sliding sync, as calls of `SlidingSync`.
 *
 * Source: MSC4186.
 */
import { SlidingSync } from "@greenroom/actors/sync/SlidingSync"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { InvalidParam } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { LongPolls } from "./LongPolls.ts"

const presences: ReadonlyArray<string> = ["online", "offline", "unavailable"]
type SetPresence = "online" | "offline" | "unavailable"

/** The presence that the body of a request sets. Errors: M_INVALID_PARAM. */
const readPresence = (given: string | null | undefined): Effect.Effect<SetPresence | undefined, InvalidParam> =>
  given == null || presences.includes(given)
    ? Effect.succeed((given ?? undefined) as SetPresence | undefined)
    : Effect.fail(new InvalidParam({ error: `set_presence: expected one of ${presences.join(", ")}` }))

export const slidingSyncHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.slidingSync", (handlers) =>
  withServices(function* () {
    const slidingSync = yield* SlidingSync
    const longPolls = yield* LongPolls

    return handlers.handle(
      "slidingSync",
      ({ payload, query }) =>
        CurrentSession.use((session) =>
          Effect.gen(function* () {
            const body = payload ?? {}
            const pos = query.pos ?? body.pos ?? undefined
            const timeout = query.timeout ?? body.timeout ?? 0
            const setPresence = query.set_presence ?? (yield* readPresence(body.set_presence))
            const isWhole = pos === undefined
            const answer = yield* longPolls.poll({ session, timeout, setPresence, isWhole }, (timeout) =>
              slidingSync.sync(session, { pos, timeout, body })
            )
            return HttpServerResponse.jsonUnsafe(answer)
          })
        ),
      { uninterruptible: true }
    )
  })
)
