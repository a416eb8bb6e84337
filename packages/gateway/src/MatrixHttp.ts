/**
 * The middleware of all endpoints: every failure is answered as `{"errcode": "M_...", "error": "..."}`, web pages of any
 * origin may read every answer, bodies are read as JSON in UTF-8 whatever their content type, and both prefixes of the client
 * API lead to the same endpoints.
 *
 * Source: "API Standards" of the draft and of the client-server specification.
 */

import { databaseRefusal, isOfEndedAccount, isOfUnavailableNode } from "@greenroom/actors/runtime/NodeUnavailable"
import { withAllowance } from "@greenroom/actors/runtime/RequestAllowance"
import {
  BadRequest,
  type ErrorBody,
  InvalidParam,
  isMatrixError,
  type LimitExceeded,
  type MatrixError,
  statusOf,
  TooLarge,
  toErrorBody,
  UnknownToken
} from "@greenroom/protocol/MatrixError"
import { Cause, Effect, type Scope } from "effect"
import { Headers, HttpServerError, HttpServerRequest, HttpServerResponse } from "effect/http"
import { MatrixRequest, maxBodyBytes } from "./MatrixRequest.ts"
import { pathOf } from "./RequestPath.ts"
import { recordOf } from "./RequestRecords.ts"

/** Web pages of any origin may send requests and read the answers. Part of every answer. */
export const corsHeaders = Headers.fromRecordUnsafe({
  "access-control-allow-origin": "*",
  "access-control-allow-methods": "GET, HEAD, POST, PUT, DELETE, OPTIONS",
  "access-control-allow-headers":
    "Origin, X-Requested-With, Content-Type, Accept, Authorization, If-Match, If-None-Match",
  "access-control-expose-headers": "Retry-After"
})

const preflight = HttpServerResponse.jsonUnsafe(
  {},
  { headers: Headers.set(corsHeaders, "access-control-max-age", "86400") }
)

/** The response to an error. `status` is for errors that have several. */
export const errorResponse = (
  error: MatrixError,
  status: number = statusOf[error._tag]
): HttpServerResponse.HttpServerResponse => HttpServerResponse.jsonUnsafe(toErrorBody(error), { status })

/** An error without a class of its own: an internal failure, or a server that shuts down. */
const unknownError = (status: number, error: string): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.jsonUnsafe({ errcode: "M_UNKNOWN", error }, { status })

/** The answer while the gateway shuts down. */
export const goingDown = HttpServerResponse.setHeaders(
  unknownError(503, "The server is shutting down, try again later"),
  {
    ...corsHeaders,
    connection: "close",
    "retry-after": "1"
  }
)

/**
 * The answer where the database, or the node that runs an actor, cannot be reached, in which case another one takes over within
 * seconds; or where the database cannot write, as on a full disk, or has cancelled a statement. In HTTP the status is 503.
 */
export const unavailable: ErrorBody = {
  errcode: "M_UNKNOWN",
  error: "The database or a node of this server cannot take the request now, try again",
  retry_after_ms: 1_000
}

/** The answer to a request whose account was deactivated while it was handled. */
export const accountEnded = new UnknownToken({ error: "The account was deactivated" })

const nodeUnavailable = HttpServerResponse.jsonUnsafe(unavailable, { status: 503, headers: { "retry-after": "1" } })

type Http<E> = Effect.Effect<
  HttpServerResponse.HttpServerResponse,
  E,
  HttpServerRequest.HttpServerRequest | Scope.Scope
>

/** The answer to a request with a compressed body, which is not read. Undefined for all other requests. */
export const refuseEncoding = ({
  headers
}: HttpServerRequest.HttpServerRequest): HttpServerResponse.HttpServerResponse | undefined => {
  const encoding = headers["content-encoding"]
  if (encoding === undefined || encoding === "identity") return undefined
  const response = unknownError(415, "Content-Encoding: expected identity, that is, a body without compression")
  return HttpServerResponse.setHeader(response, "accept-encoding", "identity")
}

/**
 * The answer to a URL with U+0000, which is in no identifier and which PostgreSQL refuses in a text. Undefined for all other
 * requests.
 */
const refuseNul = ({ url }: HttpServerRequest.HttpServerRequest) =>
  url.includes("%00") ? errorResponse(new InvalidParam({ error: "The URL contains U+0000" })) : undefined

/** The paths of the endpoints (`KnownPaths.ts`). */
export interface KnownPaths {
  /** The answer to a request that no endpoint took. */
  readonly notFound: (request: HttpServerRequest.HttpServerRequest) => HttpServerResponse.HttpServerResponse
}

/** The endpoints with this middleware. Fails only by interruption. */
export const matrixHttp = (endpoints: Http<unknown>, known: KnownPaths): Http<never> =>
  HttpServerRequest.HttpServerRequest.use((request) => {
    if (request.method === "OPTIONS") return Effect.succeed(preflight)
    const refused = refuseEncoding(request) ?? refuseNul(request)
    if (refused !== undefined) return Effect.succeed(finish(refused))
    const adapted = new MatrixRequest(request)
    const answered = Effect.provideService(withAllowance(endpoints), HttpServerRequest.HttpServerRequest, adapted)
    return Effect.matchCauseEffect(answered, {
      onSuccess: (response) => Effect.succeed(finish(response)),
      onFailure: (cause) =>
        Cause.hasInterruptsOnly(cause)
          ? Effect.failCause(cause as Cause.Cause<never>)
          : Effect.map(answerCause(cause, adapted, known), finish)
    })
  })

const finish = (response: HttpServerResponse.HttpServerResponse): HttpServerResponse.HttpServerResponse =>
  HttpServerResponse.setHeaders(response, response.status === 429 ? withRetryAfter(response) : corsHeaders)

/** The headers of a 429 with `Retry-After` in whole seconds. A page for people has no JSON that names the time. */
const withRetryAfter = ({ body }: HttpServerResponse.HttpServerResponse): Headers.Headers => {
  const isJson = body._tag === "Uint8Array" && body.contentType.startsWith("application/json")
  const text = isJson ? (body.text ?? new TextDecoder().decode(body.body)) : "{}"
  const { retry_after_ms = 1_000 } = JSON.parse(text) as Partial<LimitExceeded>
  return Headers.set(corsHeaders, "retry-after", String(Math.ceil(retry_after_ms / 1_000)))
}

/** The answer to a failure. */
export const answerCause = (
  cause: Cause.Cause<unknown>,
  request: HttpServerRequest.HttpServerRequest,
  known: KnownPaths
): Effect.Effect<HttpServerResponse.HttpServerResponse> => {
  const error = Cause.squash(cause)
  if (isMatrixError(error)) return Effect.succeed(errorResponse(error))
  if (HttpServerError.isHttpServerError(error)) {
    const { reason } = error
    if (reason._tag === "RouteNotFound") return Effect.succeed(known.notFound(request))
    if (reason._tag === "RequestParseError") return Effect.succeed(errorResponse(bodyError(reason)))
  }
  if (isOfUnavailableNode(cause)) return Effect.succeed(nodeUnavailable)
  if (isOfEndedAccount(cause)) return Effect.succeed(errorResponse(accountEnded))
  const refusal = databaseRefusal(cause)
  return refusal === undefined ? answerDefect(cause, request) : answerRefusal(refusal, request)
}

/** On a full disk many requests fail: each has a short line, which says why. */
const answerRefusal = (
  refusal: string,
  { method, url }: HttpServerRequest.HttpServerRequest
): Effect.Effect<HttpServerResponse.HttpServerResponse> =>
  Effect.logError(`A request was refused, because ${refusal}`).pipe(
    Effect.annotateLogs({ method, path: pathOf(url) }),
    Effect.as(nodeUnavailable)
  )

const bodyError = (reason: HttpServerError.RequestParseError): TooLarge | BadRequest =>
  reason.reason === "BodyTooLarge"
    ? new TooLarge({ error: `The body is larger than ${maxBodyBytes} bytes` })
    : new BadRequest({ error: "The body could not be read" })

/** The client gets only a reference, by which the operator finds the failure in the log. */
const answerDefect = (
  cause: Cause.Cause<unknown>,
  request: HttpServerRequest.HttpServerRequest
): Effect.Effect<HttpServerResponse.HttpServerResponse> =>
  Effect.suspend(() => {
    const reference = recordOf(request)?.id ?? crypto.randomUUID().slice(0, 8)
    return Effect.logError("Internal error while answering a request", cause).pipe(
      Effect.annotateLogs({ reference, method: request.method, path: pathOf(request.url) }),
      Effect.as(unknownError(500, `Internal server error, reference ${reference}`))
    )
  })
