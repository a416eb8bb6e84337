/**
 * The state of the other home servers, as a call of `Peers`. For administrators alone.
 */
import { Administration } from "@greenroom/actors/account/Administration"
import { Peers } from "@greenroom/actors/federation/Peers"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "./EndpointServices.ts"

export const destinationsHandlers = HttpApiBuilder.group(ClientApi, "destinations", (handlers) =>
  withServices(function* () {
    const admin = yield* Administration
    const peers = yield* Peers
    return handlers.handle("destinations", () =>
      CurrentSession.use((session) =>
        Effect.andThen(
          admin.requireAdmin(session),
          Effect.map(peers.list, (destinations) => ({ destinations }))
        )
      )
    )
  })
)
