/**
 * What this server can do.
 *
 * Source: "Server discovery" and "Capabilities negotiation" of the client-server specification.
 */
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { specificationVersions, type Versions } from "@greenroom/protocol/client-server/VersionsApi"
import { NotFound } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "../client-api/EndpointServices.ts"
import { PublicUrl } from "../PublicUrl.ts"

/** What clients may use beyond the versions of the specification. Each entry is true because the feature is served. */
const unstableFeatures: Versions["unstable_features"] = {}

const versions: Versions = { versions: specificationVersions, unstable_features: unstableFeatures }

export const versionsHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.versions", (handlers) =>
  handlers
    .handle("versions", () => Effect.succeed(versions))
    .handle("capabilities", () => Effect.succeed({ capabilities: { "m.change_password": { enabled: true } } }))
)

export const wellKnownHandlers = HttpApiBuilder.group(ClientServerApi, "clientServer.wellKnown", (handlers) =>
  withServices(function* () {
    const publicUrl = yield* PublicUrl
    return handlers
      .handle("client", () => Effect.sync(() => ({ "m.homeserver": { base_url: publicUrl.get() } })))
      .handle("support", () => Effect.fail(new NotFound({ error: "The operator names no contact" })))
  })
)
