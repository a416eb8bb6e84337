/**
 * The errors of today's client API, with the page on which users learn about the limits of their accounts: that of the operator, else the
 * home page of this server.
 */
import { HomeServerConfig } from "@greenroom/actors/runtime/HomeServerConfig"
import { PublicUrl } from "@greenroom/actors/runtime/PublicUrl"
import { ClientErrors } from "@greenroom/protocol/client-server/ClientErrors"
import { Layer } from "effect"
import { withServices } from "../client-api/EndpointServices.ts"

export const clientErrorsLayer = Layer.unwrap(
  withServices(function* () {
    const { support } = yield* HomeServerConfig
    const publicUrl = yield* PublicUrl
    return ClientErrors.layer(() => support?.page ?? `${publicUrl.get()}/`)
  })
)
