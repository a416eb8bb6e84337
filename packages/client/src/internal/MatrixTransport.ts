/**
 * Today's client API as typed functions over HTTP, and files, whose bodies the definitions leave open.
 */
import { ClientServerApi } from "@greenroom/protocol/client-server/ClientServerApi"
import { isJsonObject } from "@greenroom/protocol/Json"
import { Effect, Redacted } from "effect"
import { HttpClient, HttpClientRequest, type HttpClientResponse } from "effect/http"
import { HttpApiClient } from "effect/http-api"
import { ConnectionError } from "../ConnectionError.ts"
import { fromErrorBody } from "./MatrixErrors.ts"
import type { ClientError } from "./Retry.ts"
import { bearer, makeRequests, type Requests, type TransportOptions } from "./Transport.ts"

export type MatrixTransportOptions = Omit<TransportOptions, "prefix">

const makeApi = ({ accessToken, baseUrl }: MatrixTransportOptions) =>
  HttpApiClient.make(ClientServerApi, {
    transformClient: HttpClient.mapRequest((request) => HttpClientRequest.setUrl(request, baseUrl + request.url))
  }).pipe(Effect.provide(bearer(accessToken)))

/** Every endpoint of today's client API, by group and name, as a function. */
type MatrixApi = Effect.Success<ReturnType<typeof makeApi>>

export interface MatrixTransport extends Requests {
  readonly api: MatrixApi
  readonly options: MatrixTransportOptions
  /** Sends a request to a path with the access token, and fails for any other status than 200 with the error of the answer. */
  readonly fetch: (
    request: HttpClientRequest.HttpClientRequest
  ) => Effect.Effect<HttpClientResponse.HttpClientResponse, unknown>
}

const failureOf = (status: number, body: unknown): ClientError =>
  isJsonObject(body) && typeof body.errcode === "string"
    ? fromErrorBody({ ...body, errcode: body.errcode, error: String(body.error) })
    : new ConnectionError({ error: `The server answered with status ${status}`, transient: status >= 500, status })

const expectOk = (response: HttpClientResponse.HttpClientResponse) =>
  response.status === 200
    ? Effect.succeed(response)
    : response.json.pipe(
        Effect.orElseSucceed(() => undefined),
        Effect.flatMap((body) => Effect.fail(failureOf(response.status, body)))
      )

export const makeMatrixTransport = Effect.fnUntraced(function* (options: MatrixTransportOptions) {
  const http = yield* HttpClient.HttpClient
  const { accessToken, baseUrl } = options
  const transport: MatrixTransport = {
    ...makeRequests(options),
    api: yield* makeApi(options),
    options,
    fetch: (request) => {
      const addressed = HttpClientRequest.setUrl(request, baseUrl + request.url)
      const authorised =
        accessToken === undefined ? addressed : HttpClientRequest.bearerToken(addressed, Redacted.value(accessToken))
      return Effect.flatMap(http.execute(authorised), expectOk)
    }
  }
  return transport
})
