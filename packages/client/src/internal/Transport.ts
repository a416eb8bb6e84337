/**
 * The client API as typed functions over HTTP. They fail with errors of the protocol or a `ConnectionError`.
 */
import { Authentication, OptionalAuthentication } from "@greenroom/protocol/api/Authentication"
import { clientApi, clientPrefix } from "@greenroom/protocol/api/ClientApi"
import { isMatrixError } from "@greenroom/protocol/MatrixError"
import { type Duration, Effect, Layer, Redacted, Schema } from "effect"
import { HttpClient, HttpClientError, HttpClientRequest } from "effect/http"
import { HttpApiClient, HttpApiMiddleware } from "effect/http-api"
import { ConnectionError } from "../ConnectionError.ts"
import { type ClientError, retrying } from "./Retry.ts"

/** Address of the server, credentials, and retries. */
export interface TransportOptions {
  readonly baseUrl: string
  readonly prefix: `/${string}`
  readonly accessToken: Redacted.Redacted | undefined
  readonly retryTimeout: Duration.Duration
}

const makeApi = (options: TransportOptions) =>
  HttpApiClient.make(clientApi(clientPrefix), {
    transformClient: HttpClient.mapRequest((request) =>
      request.url.startsWith(clientPrefix)
        ? HttpClientRequest.setUrl(request, options.baseUrl + options.prefix + request.url.slice(clientPrefix.length))
        : HttpClientRequest.setUrl(request, options.baseUrl + request.url)
    )
  }).pipe(Effect.provide(bearer(options.accessToken)))

/** Sends the access token with the endpoints that take one. */
export const bearer = (token: Redacted.Redacted | undefined) => {
  const withToken: HttpApiMiddleware.HttpApiMiddlewareClient<never, never, never> = ({ next, request }) =>
    next(token === undefined ? request : HttpClientRequest.bearerToken(request, Redacted.value(token)))
  return Layer.merge(
    HttpApiMiddleware.layerClient(Authentication, withToken),
    HttpApiMiddleware.layerClient(OptionalAuthentication, withToken)
  )
}

/** Every endpoint of the client API, by group and name, as a function. */
export type Api = Effect.Success<ReturnType<typeof makeApi>>

/** Shared by the clients of both generations of the API: sending requests. */
export interface Requests {
  /** An idempotent request: it is retried after failures of the connection. */
  readonly repeatable: <A>(request: Effect.Effect<A, ApiError>) => Effect.Effect<A, ClientError>
  /** A request that must not be sent twice. */
  readonly once: <A>(request: Effect.Effect<A, ApiError>) => Effect.Effect<A, ClientError>
  /** A transaction ID that no other request of this client has. */
  readonly newTransactionId: () => string
}

export interface Transport extends Requests {
  readonly api: Api
  readonly options: TransportOptions
}

type ApiError = unknown

const transientStatuses: ReadonlySet<number> = new Set([408, 500, 502, 503, 504])

const toClientError = (error: ApiError): ClientError => {
  if (isMatrixError(error) || error instanceof ConnectionError) return error
  if (HttpClientError.isHttpClientError(error)) {
    const status = error.response?.status
    return status === undefined
      ? new ConnectionError({
          error: "The server cannot be reached",
          transient: error.reason._tag === "TransportError"
        })
      : new ConnectionError({
          error: `The server answered with status ${status}`,
          transient: transientStatuses.has(status) || error.reason._tag === "TransportError",
          status
        })
  }
  return new ConnectionError({
    error: Schema.isSchemaError(error) ? `The request or its answer has another form: ${error.message}` : String(error),
    transient: false
  })
}

/** A random text and a counter. `crypto.randomUUID` does not exist in pages without TLS. */
const transactionIds = (): (() => string) => {
  const random = crypto.getRandomValues(new Uint8Array(12))
  const ours = Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")
  let count = 0
  return () => `${ours}.${++count}`
}

export const makeRequests = ({ retryTimeout }: Pick<TransportOptions, "retryTimeout">): Requests => {
  const wrap =
    (repeatable: boolean) =>
    <A>(request: Effect.Effect<A, ApiError>): Effect.Effect<A, ClientError> =>
      // CORS does not allow web pages to send headers for tracing.
      retrying(Effect.mapError(request, toClientError), { repeatable, retryTimeout }).pipe(
        Effect.provideService(HttpClient.TracerPropagationEnabled, false)
      )
  return { repeatable: wrap(true), once: wrap(false), newTransactionId: transactionIds() }
}

export const makeTransport = Effect.fnUntraced(function* (options: TransportOptions) {
  const transport: Transport = { ...makeRequests(options), api: yield* makeApi(options), options }
  return transport
})
