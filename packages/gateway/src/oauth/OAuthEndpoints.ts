/**
 * The endpoints of the OAuth 2.0 API that programs call: registration of clients, tokens, revocation, devices. Their bodies
 * and errors are those of OAuth 2.0.
 *
 * Source: "OAuth 2.0 API" of the client-server specification; RFC 6749, 7009, 7517, 7591, 8414, 8628; OpenID Connect Discovery 1.0.
 */
import { deviceGrant } from "@greenroom/actors/account/oauth/ClientMetadata"
import type { OAuthError } from "@greenroom/actors/account/oauth/OAuthError"
import { OAuthServer } from "@greenroom/actors/account/oauth/OAuthServer"
import { PublicUrl } from "@greenroom/actors/runtime/PublicUrl"
import { parseJsonText } from "@greenroom/protocol/Json"
import type { LimitExceeded } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import { HttpRouter, HttpServerRequest, type HttpServerResponse } from "effect/http"
import { withServices } from "../client-api/EndpointServices.ts"
import { RateLimit } from "../RateLimit.ts"
import { Sockets } from "../socket/Sockets.ts"
import { addressOf } from "../TrustedProxies.ts"
import { errorAnswer, formOf, jsonAnswer, paths } from "./OAuthForms.ts"

/** The actions of the account page. */
const accountActions = [
  "org.matrix.profile",
  "org.matrix.devices_list",
  "org.matrix.device_view",
  "org.matrix.device_delete",
  "org.matrix.account_deactivate",
  "org.matrix.cross_signing_reset",
  "org.matrix.sessions_list",
  "org.matrix.session_view",
  "org.matrix.session_end"
]

/** The URLs of all endpoints, for clients. */
export const authMetadata = (publicUrl: string) => ({
  issuer: `${publicUrl}/`,
  authorization_endpoint: `${publicUrl}${paths.authorise}`,
  token_endpoint: `${publicUrl}${paths.token}`,
  revocation_endpoint: `${publicUrl}${paths.revoke}`,
  registration_endpoint: `${publicUrl}${paths.registration}`,
  device_authorization_endpoint: `${publicUrl}${paths.device}`,
  jwks_uri: `${publicUrl}${paths.keys}`,
  subject_types_supported: ["public"],
  id_token_signing_alg_values_supported: ["RS256"],
  response_types_supported: ["code"],
  response_modes_supported: ["query", "fragment"],
  authorization_response_iss_parameter_supported: true,
  grant_types_supported: ["authorization_code", "refresh_token", deviceGrant],
  code_challenge_methods_supported: ["S256"],
  token_endpoint_auth_methods_supported: ["none"],
  revocation_endpoint_auth_methods_supported: ["none"],
  prompt_values_supported: ["create"],
  account_management_uri: `${publicUrl}${paths.account}`,
  account_management_actions_supported: accountActions
})

type Answer = Effect.Effect<object, OAuthError | LimitExceeded>

export const oauthEndpoints = HttpRouter.use((router) =>
  withServices(function* () {
    const oauth = yield* OAuthServer
    const limit = yield* RateLimit
    const sockets = yield* Sockets
    const publicUrl = yield* PublicUrl
    if (oauth.mode === "off") return

    /** Answers a form as OAuth 2.0 does. */
    const answer = (
      kind: "registrations" | "anonymous",
      answerTo: (request: HttpServerRequest.HttpServerRequest) => Answer,
      status = 200
    ): Effect.Effect<HttpServerResponse.HttpServerResponse, never, HttpServerRequest.HttpServerRequest> =>
      HttpServerRequest.HttpServerRequest.use((request) =>
        limit.takeFrom(kind, addressOf(request)).pipe(
          Effect.andThen(answerTo(request)),
          Effect.match({
            onSuccess: (body) => jsonAnswer(body, status),
            onFailure: (error) =>
              error._tag === "OAuthError"
                ? errorAnswer(error)
                : jsonAnswer(
                    { error: "slow_down", error_description: error.error, retry_after_ms: error.retry_after_ms },
                    429
                  )
          })
        )
      )

    yield* router.add(
      "POST",
      paths.registration,
      answer(
        "registrations",
        (request) => Effect.flatMap(Effect.orDie(request.text), (text) => oauth.register(parseJsonText(text))),
        201
      )
    )
    yield* router.add(
      "POST",
      paths.token,
      answer("anonymous", (request) => Effect.flatMap(formOf(request), oauth.token))
    )
    yield* router.add(
      "POST",
      paths.revoke,
      answer("anonymous", (request) =>
        formOf(request).pipe(
          Effect.flatMap(oauth.revoke),
          Effect.flatMap((ended) => Effect.forEach(ended, sockets.closeToken, { discard: true })),
          Effect.as({})
        )
      )
    )
    yield* router.add(
      "POST",
      paths.device,
      answer("anonymous", (request) =>
        Effect.flatMap(formOf(request), (params) =>
          Effect.map(oauth.device(params, addressOf(request)), (device) => {
            const uri = `${publicUrl.get()}${paths.link}`
            return {
              ...device,
              verification_uri: uri,
              verification_uri_complete: `${uri}?user_code=${device.user_code}`
            }
          })
        )
      )
    )
    yield* router.add(
      "GET",
      paths.keys,
      Effect.map(oauth.idTokenKeys, (keys) => jsonAnswer(keys))
    )
    const metadata = Effect.sync(() => jsonAnswer(authMetadata(publicUrl.get())))
    yield* router.add("GET", "/.well-known/openid-configuration", metadata)
    yield* router.add("GET", "/.well-known/oauth-authorization-server", metadata)
  })
)
