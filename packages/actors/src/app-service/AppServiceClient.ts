/**
 * Requests to application services. Their URLs are the operator's, so that they may lie in any network. A service that does
 * not know today's paths is asked by the former ones.
 *
 * Source: "Homeserver -> Application Service API".
 */
import * as NodeHttpClient from "@effect/platform-node/NodeHttpClient"
import type { Json } from "@greenroom/protocol/Json"
import { Context, Data, Effect, Layer } from "effect"
import { HttpClient, HttpClientRequest } from "effect/http"
import { answerText } from "../runtime/AnswerText.ts"
import { Departure } from "../runtime/Departure.ts"
import type { AppService } from "./AppServices.ts"

/** How long a service may take to answer. */
const requestTimeout = "60 seconds"

/** The largest answer that is read, in bytes. */
const maxAnswer = 1024 * 1024

/** The service gave no answer: `isTimeout` where it took a connection and stayed silent. */
export class AppServiceUnreachable extends Data.TaggedError("AppServiceUnreachable")<{
  readonly isTimeout: boolean
  readonly reason: string
}> {
  override get message(): string {
    return this.reason
  }
}

/** The answer of an application service. */
export interface AppServiceAnswer {
  readonly status: number
  readonly text: string
}

/** The path of an endpoint, and its path from before the specification. */
interface Path {
  readonly path: string
  readonly former: string
}

const endpoint = (name: string, former = `/${name}`): Path => ({ path: `/_matrix/app/v1/${name}`, former })

/** The endpoints of application services, each with its former path. */
export const endpoints = {
  transaction: (id: number) => endpoint(`transactions/${id}`),
  user: (userId: string) => endpoint(`users/${encodeURIComponent(userId)}`),
  alias: (alias: string) => endpoint(`rooms/${encodeURIComponent(alias)}`),
  ping: endpoint("ping", "/_matrix/app/unstable/fi.mau.msc2659/ping"),
  thirdParty: (name: string) => endpoint(`thirdparty/${name}`, `/_matrix/app/unstable/thirdparty/${name}`)
}

/** Statuses by which a service shows that it does not know a path. */
const unknownPath: ReadonlySet<number> = new Set([404, 405, 501])

const make = Effect.gen(function* () {
  const client = yield* HttpClient.HttpClient
  const { whileStaying } = yield* Departure

  const exchange = Effect.fnUntraced(function* (
    service: AppService,
    path: string,
    body: string | undefined,
    query: { readonly [key: string]: string },
    method: "GET" | "PUT" | "POST"
  ) {
    const url = `${service.url}${path}`
    const base = HttpClientRequest.make(method)(url, { urlParams: query })
    const request = body === undefined ? base : HttpClientRequest.bodyText(base, body, "application/json")
    return yield* client.execute(HttpClientRequest.bearerToken(request, service.hsToken)).pipe(
      Effect.flatMap((response) =>
        Effect.map(answerText(response, maxAnswer), (text): AppServiceAnswer => ({ status: response.status, text }))
      ),
      Effect.scoped,
      // The headers have a secret, which is not for traces.
      Effect.provideService(HttpClient.TracerDisabledWhen, () => true),
      Effect.mapError((error) => new AppServiceUnreachable({ isTimeout: false, reason: error.message })),
      Effect.timeoutOrElse({
        duration: requestTimeout,
        orElse: () =>
          Effect.fail(new AppServiceUnreachable({ isTimeout: true, reason: `no answer in ${requestTimeout}` }))
      }),
      whileStaying
    )
  })

  const request: AppServiceClient["Service"]["request"] = Effect.fn("AppServiceClient.request")(function* (
    service,
    { former, path },
    { body, method = "GET", query = {} } = {}
  ) {
    if (service.url === undefined) {
      return yield* new AppServiceUnreachable({ isTimeout: false, reason: "the service has no URL" })
    }
    const text = typeof body === "string" || body === undefined ? body : JSON.stringify(body)
    const answer = yield* exchange(service, path, text, query, method)
    if (!unknownPath.has(answer.status)) return answer
    const second = yield* exchange(service, former, text, query, method)
    return second.status < 300 ? second : answer
  })

  return AppServiceClient.of({ request })
})

/** HTTP requests to application services. */
export class AppServiceClient extends Context.Service<
  AppServiceClient,
  {
    /** Asks a service. A `body` that is a text is sent as it is. Any status is an answer. */
    readonly request: (
      service: AppService,
      path: Path,
      options?: {
        readonly method?: "GET" | "PUT" | "POST"
        readonly body?: Json
        readonly query?: { readonly [key: string]: string }
      }
    ) => Effect.Effect<AppServiceAnswer, AppServiceUnreachable>
  }
>()("greenroom/actors/AppServiceClient") {
  static readonly layer: Layer.Layer<AppServiceClient, never, Departure> = Layer.effect(AppServiceClient, make).pipe(
    Layer.provide(NodeHttpClient.layerNodeHttp)
  )
}
