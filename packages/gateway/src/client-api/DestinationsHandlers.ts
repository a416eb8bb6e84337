/**
 * The state of the other home servers, as a call of `Peers`. For administrators alone.
 */
import { Peers } from "@greenroom/actors/federation/Peers"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { makeAsAdmin } from "../admin/AdminAction.ts"
import { withServices } from "./EndpointServices.ts"

export const destinationsHandlers = HttpApiBuilder.group(ClientApi, "destinations", (handlers) =>
  withServices(function* () {
    const asAdmin = yield* makeAsAdmin
    const peers = yield* Peers
    return handlers.handle("destinations", () =>
      asAdmin({ action: "destination.list" }, () => Effect.map(peers.list, (destinations) => ({ destinations })))
    )
  })
)
