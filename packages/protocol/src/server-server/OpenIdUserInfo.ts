/**
 * The endpoint at which a third party learns whose OpenID token it was given.
 *
 * It is part of the server-server API. Integration managers and bridges request it at the address of the client API, so it is served there too.
 *
 * Source: "OpenID" of the server-server specification.
 */
import { HttpApiEndpoint } from "effect/http-api"
import { AnyObject } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText } from "../api/Parameters.ts"

/** The prefix of today's federation API. */
export const serverServerPrefix = "/_matrix/federation"

/** `GET /_matrix/federation/v1/openid/userinfo`, below `serverServerPrefix`. */
export const openIdUserInfo = HttpApiEndpoint.get("userinfo", "/v1/openid/userinfo", {
  query: { access_token: boundedText(1_000) },
  success: AnyObject
}).annotateMerge(
  documented({
    summary: "The user of an OpenID token",
    text: "Served at the address of the client API and at that of the federation API. Errors: M_UNKNOWN_TOKEN.",
    who: "third parties to which a user has given the token"
  })
)
