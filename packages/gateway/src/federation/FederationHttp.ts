/**
 * The middleware of the federation API: both prefixes and a slash at the end of the path lead to the
 * same endpoints, and every failure is answered as `{"errcode": "M_...", "error": "..."}`.
 */

import { withAllowance } from "@greenroom/actors/runtime/RequestAllowance"
import { canonicalFederationUrl } from "@greenroom/protocol/federation/FederationApi"
import { Cause, Effect, type Scope } from "effect"
import { Headers, HttpServerRequest, type HttpServerResponse } from "effect/http"
import { answerCause, type KnownPaths, refuseEncoding } from "../MatrixHttp.ts"

type Http<E> = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  E,
  HttpServerRequest.HttpServerRequest | Scope.Scope
>

/** The request as the endpoints read it. The signature covers the URL of Node's request, which is left unchanged. */
const adapt = (request: HttpServerRequest.HttpServerRequest): HttpServerRequest.HttpServerRequest =>
  request.modify({
    url: canonicalFederationUrl(request.url),
    headers: Headers.set(request.headers, "content-type", "application/json")
  })

/** The endpoints with this middleware. Fails only by interruption. */
export const federationHttp = (endpoints: Http<unknown>, known: KnownPaths): Http<never> =>
  HttpServerRequest.HttpServerRequest.use((request) => {
    const refused = refuseEncoding(request)
    if (refused !== undefined) return Effect.succeed(refused)
    const adapted = adapt(request)
    return Effect.catchCause(
      Effect.provideService(withAllowance(endpoints), HttpServerRequest.HttpServerRequest, adapted),
      (cause): Http<never> =>
        Cause.hasInterruptsOnly(cause)
          ? Effect.failCause(cause as Cause.Cause<never>)
          : answerCause(cause, adapted, known)
    )
  })
