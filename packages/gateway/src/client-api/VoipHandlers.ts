/**
 * Credentials for TURN servers, as calls of `Voip`.
 *
 * Source: "Voice over IP" of the draft.
 */
import { Voip } from "@greenroom/actors/account/Voip"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "./EndpointServices.ts"

export const voipHandlers = HttpApiBuilder.group(ClientApi, "voip", (handlers) =>
  withServices(function* () {
    const voip = yield* Voip
    return handlers.handle("turnServer", () =>
      CurrentSession.use((session) => Effect.map(voip.turnServer(session), (credentials) => credentials ?? {}))
    )
  })
)
