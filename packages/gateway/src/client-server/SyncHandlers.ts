/**
 * `/sync`, as calls of `Sync`.
 *
 * Source: "Syncing" of the client-server specification.
 */
import { Sync, type SyncRequest } from "@greenroom/actors/sync/Sync"
import { encodeSyncAnswer } from "@greenroom/actors/sync/SyncAnswer"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { jsonText } from "../JsonAnswer.ts"
import { LongPolls } from "./LongPolls.ts"

/** The name under which older clients ask for and read the state at the end of the timeline. */
const unstableStateAfter = "org.matrix.msc4222.state_after"

export const syncHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.sync", (handlers) =>
  withServices(function* () {
    const sync = yield* Sync
    const longPolls = yield* LongPolls

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
          return Effect.map(
            longPolls.poll(
              {
                session,
                timeout: request.timeout,
                setPresence: query.set_presence,
                isWhole: query.since === undefined || query.full_state === "true"
              },
              (timeout) => sync.sync(session, { ...request, timeout })
            ),
            (answer) => jsonText(encodeSyncAnswer(answer, unstable ? unstableStateAfter : undefined))
          )
        }),
      { uninterruptible: true }
    )
  })
)
