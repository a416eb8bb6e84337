/**
 * Credentials and lookups for third parties, as calls of `Voip` and `OpenIdTokens`.
 *
 * Source: "Voice over IP", "OpenID" and "Third-party Networks" of the client-server specification.
 */
import { OpenIdTokens } from "@greenroom/actors/account/OpenIdTokens"
import { Voip } from "@greenroom/actors/account/Voip"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import type { JsonObject } from "@greenroom/protocol/Json"
import { NotFound } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"

/** Until application services are served, no other network is reached. */
const noNetworks: JsonObject = {}
const noSuchNetwork = Effect.fail(new NotFound({ error: "protocol: no application service reaches this network" }))
const nothing: ReadonlyArray<JsonObject> = []

export const servicesHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.services", (handlers) =>
  withServices(function* () {
    const voip = yield* Voip
    const openId = yield* OpenIdTokens
    return handlers
      .handle("turnServer", () =>
        CurrentSession.use((session) =>
          Effect.map(voip.turnServer(session), (credentials): JsonObject => ({ ...credentials }))
        )
      )
      .handle("openIdToken", ({ params }) => CurrentSession.use((session) => openId.request(session, params.userId)))
      .handle("protocols", () => Effect.succeed(noNetworks))
      .handle("protocol", () => noSuchNetwork)
      .handle("locationsOfProtocol", () => noSuchNetwork)
      .handle("usersOfProtocol", () => noSuchNetwork)
      .handle("locations", () => Effect.succeed(nothing))
      .handle("users", () => Effect.succeed(nothing))
  })
)
