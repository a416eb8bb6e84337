/**
 * The record of each request while it is answered: its start, endpoint and user. The metrics and the access log read it. Without
 * both there are no records, and requests cost nothing more.
 */
import { randomBytes } from "node:crypto"
import type { IncomingMessage, ServerResponse } from "node:http"
import * as NodeHttpServerRequest from "@effect/platform-node/NodeHttpServerRequest"
import { isTraced, SamplingRatio } from "@greenroom/actors/runtime/Sampling"
import { gauge, SeriesRegistry } from "@greenroom/store/Measures"
import { Context, Effect, Layer } from "effect"
import { HttpRouter, HttpServerRequest } from "effect/http"
import { pathOf } from "./RequestPath.ts"
import { addressOf } from "./TrustedProxies.ts"

type Route = HttpRouter.Route<unknown, unknown>

/** A request that is being answered. */
export interface RequestRecord {
  /** Sent as `X-Request-Id` with the answer, and part of every line that is logged for the request. */
  readonly id: string
  /** By the clock of `performance`, in ms. */
  readonly begunAt: number
  /** The path of the endpoint, such as `/_matrix/client/v3/sync`; undefined where the request reached none. */
  route: string | undefined
  /** The user whose access token it has, or the server that has signed it. */
  user: string | undefined
  /** Of the client, also behind a trusted proxy. */
  address: string | undefined
}

/** The listeners of the gateway: for clients, and for other servers. */
export type ListenerName = "client" | "federation"

export interface RequestRecordsOptions {
  readonly metrics: boolean
  readonly accessLog: boolean
}

/** The gateway's records; undefined without metrics and access log. */
export class RequestRecords extends Context.Reference<RequestLog | undefined>("greenroom/gateway/RequestRecords", {
  defaultValue: () => undefined
}) {
  static readonly layer = (options: RequestRecordsOptions): Layer.Layer<never> =>
    options.metrics || options.accessLog
      ? Layer.effect(
          RequestRecords,
          Effect.contextWith((context: Context.Context<never>) => Effect.sync(() => new RequestLog(options, context)))
        )
      : Layer.empty
}

const record = Symbol("greenroom/gateway/RequestRecord")

interface Recorded extends IncomingMessage {
  [record]?: RequestRecord
}

/** Series of one endpoint. */
interface Series {
  readonly duration: ReturnType<SeriesRegistry["distribution"]>
  readonly byStatus: Map<number, { count: number }>
}

/** Only the methods and paths of the API are labels: others count as `other`. */
const methods = new Set(["GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD"])
const noRoute = "none"

class RequestLog {
  readonly options: RequestRecordsOptions
  private readonly registry: SeriesRegistry
  private readonly context: Context.Context<never>
  /** By endpoint and method. */
  private readonly series: { readonly [listener in ListenerName]: Map<string, Map<string, Series>> } = {
    client: new Map(),
    federation: new Map()
  }
  private readonly prefix = randomBytes(4).toString("hex")
  private count = 0
  /** How many requests are being answered. */
  readonly inFlight = { client: 0, federation: 0 }

  constructor(options: RequestRecordsOptions, context: Context.Context<never>) {
    this.options = options
    this.context = context
    this.registry = new SeriesRegistry(context)
  }

  /** Begins the record of a request, which ends with its response. */
  begin(listener: ListenerName, request: IncomingMessage, response: ServerResponse): void {
    const begun: RequestRecord = {
      id: `${this.prefix}-${(this.count++).toString(36)}`,
      begunAt: performance.now(),
      route: undefined,
      user: undefined,
      address: request.socket.remoteAddress
    }
    ;(request as Recorded)[record] = begun
    if (this.options.accessLog) response.setHeader("x-request-id", begun.id)
    this.inFlight[listener]++
    response.on("close", () => {
      this.inFlight[listener]--
      const milliseconds = performance.now() - begun.begunAt
      if (this.options.metrics) this.measure(listener, request.method ?? "", begun, response, milliseconds)
      if (this.options.accessLog) this.write(listener, request, begun, response, milliseconds)
    })
  }

  private measure(
    listener: ListenerName,
    asked: string,
    { route = noRoute }: RequestRecord,
    { statusCode }: ServerResponse,
    milliseconds: number
  ): void {
    const method = methods.has(asked) ? asked : "other"
    const series = this.seriesOf(listener, route, method)
    series.duration.record(milliseconds / 1_000)
    let counter = series.byStatus.get(statusCode)
    if (counter === undefined) {
      const labels = { listener, method, route, status: String(statusCode) }
      counter = this.registry.counter("greenroom_http_requests_total", "Requests that were answered", labels)
      series.byStatus.set(statusCode, counter)
    }
    counter.count++
  }

  private seriesOf(listener: ListenerName, route: string, method: string): Series {
    const ofRoute = this.series[listener].get(route) ?? new Map<string, Series>()
    const known = ofRoute.get(method)
    if (known !== undefined) return known
    const duration = this.registry.distribution(
      "greenroom_http_request_duration_seconds",
      "Time from the head of a request to the end of its answer; long polls wait",
      { listener, method, route }
    )
    const series = { duration, byStatus: new Map() }
    this.series[listener].set(route, ofRoute.set(method, series))
    return series
  }

  /** A line of the access log. The query is left out, since it may hold an access token. */
  private write(
    listener: ListenerName,
    { headers, method, url }: IncomingMessage,
    { address, id, user }: RequestRecord,
    response: ServerResponse,
    milliseconds: number
  ): void {
    const line = Effect.annotateLogs(Effect.logInfo("request"), {
      request: id,
      listener,
      method,
      path: pathOf(url ?? ""),
      status: response.writableFinished ? response.statusCode : 499,
      ms: Math.round(milliseconds * 10) / 10,
      ...(user === undefined ? {} : { user }),
      address,
      agent: headers["user-agent"]?.slice(0, 200)
    })
    Effect.runForkWith(this.context)(line)
  }
}

/** Begins the records of a listener's requests, for `answerRequests`. Undefined without metrics and access log. */
export const recording = (listener: ListenerName) =>
  Effect.gen(function* () {
    const log = yield* RequestRecords
    if (log === undefined) return undefined
    if (log.options.metrics) {
      const labels = { listener }
      yield* gauge(
        "greenroom_http_requests_in_flight",
        "Requests that are being answered",
        () => log.inFlight[listener],
        labels
      )
    }
    return (request: IncomingMessage, response: ServerResponse) => log.begin(listener, request, response)
  })

/** The record of a request, if there is one. */
export const recordOf = (request: HttpServerRequest.HttpServerRequest): RequestRecord | undefined =>
  (NodeHttpServerRequest.toIncomingMessage(request) as Recorded)[record]

/** Adds the user to the record of the request, if there is one. */
export const noteUser = (user: string): Effect.Effect<void> =>
  Effect.withFiber((fiber) => {
    const request = Context.getOrUndefined(fiber.context, HttpServerRequest.HttpServerRequest)
    const found = request === undefined ? undefined : recordOf(request)
    if (found !== undefined) found.user = user
    return Effect.void
  })

/** The span of a request is named after its endpoint within it, since it began before the endpoint was known. */
const tracing = (method: string, path: string, handler: Route["handler"]): Route["handler"] =>
  Effect.withSpan(handler, `${method} ${path}`, { attributes: { "http.route": path, "http.request.method": method } })

/** The handler of a route, which adds the endpoint to the record, and the request ID to every line that it logs. */
const recordingEndpoint = (path: string, handler: Route["handler"]): Route["handler"] =>
  Effect.withFiber((fiber) => {
    const request = Context.getUnsafe(fiber.context, HttpServerRequest.HttpServerRequest)
    const traced = isTraced(fiber.context) ? tracing(request.method, path, handler) : handler
    const found = recordOf(request)
    if (found === undefined) return traced
    found.route = path
    found.address = addressOf(request)
    return Effect.annotateLogs(traced, "request", found.id)
  })

/** Registers the routes of a layer so that a request's record contains its endpoint. */
export const namingRoutes: Layer.Layer<HttpRouter.HttpRouter, never, HttpRouter.HttpRouter> = Layer.effect(
  HttpRouter.HttpRouter,
  Effect.gen(function* () {
    const router = yield* HttpRouter.HttpRouter
    if ((yield* RequestRecords) === undefined && (yield* SamplingRatio) === 0) return router
    return HttpRouter.HttpRouter.of({
      ...router,
      addAll: (routes) =>
        router.addAll(
          routes.map((route) => ({
            ...route,
            handler: recordingEndpoint(route.path, route.handler)
          })) as unknown as typeof routes
        )
    })
  })
)
