/**
 * Simplified sliding sync, as calls of `SlidingSync`.
 *
 * Source: MSC4186.
 */
import { SlidingSync } from "@greenroom/actors/sync/SlidingSync"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { Effect } from "effect"
import { HttpServerResponse } from "effect/http"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { makeLongPoll } from "./LongPoll.ts"

export const slidingSyncHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.slidingSync", (handlers) =>
  withServices(function* () {
    const slidingSync = yield* SlidingSync
    const longPoll = yield* makeLongPoll

    return handlers.handle(
      "slidingSync",
      ({ payload, query }) =>
        CurrentSession.use((session) => {
          const body = payload ?? {}
          const pos = query.pos ?? body.pos ?? undefined
          const timeout = query.timeout ?? body.timeout ?? 0
          const setPresence = query.set_presence ?? body.set_presence
          return Effect.map(
            longPoll({ session, timeout, setPresence }, (timeout) => slidingSync.sync(session, { pos, timeout, body })),
            HttpServerResponse.jsonUnsafe
          )
        }),
      { uninterruptible: true }
    )
  })
)
