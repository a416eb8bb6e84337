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
export class RequestRecord {
  readonly log: RequestLog
  readonly listener: ListenerName
  /** Time of the clock of `performance`, in ms. */
  readonly begunAt = performance.now()
  /** The path of the endpoint, such as `/_matrix/client/v3/sync`; undefined if the request reached none. */
  route: string | undefined
  /** The user whose access token it has, or the server that has signed it. For the access log alone. */
  user: string | undefined
  /** The client's address, also behind a trusted proxy. Used by the access log only. */
  address: string | undefined
  private readonly number: number

  constructor(log: RequestLog, listener: ListenerName, number: number) {
    this.log = log
    this.listener = listener
    this.number = number
  }

  /** Sent as `X-Request-Id` with the answer, and part of every line that is logged for the request, if there is an access log. */
  get id(): string {
    return `${prefix}-${this.number.toString(36)}`
  }
}

/** Tells the IDs of requests of this process from those of others. */
const prefix = randomBytes(4).toString("hex")

/** The listeners of the gateway: for clients, and for other servers. */
export type ListenerName = "client" | "federation"

/** The records that are made of each request. */
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

/** Ends the record of the request. One listener for all responses: each would have a closure of its own. */
function endRecord(this: ServerResponse): void {
  const request: Recorded = this.req
  const begun = request[record]
  begun?.log.end(request, begun, this)
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
  /** Keys: endpoint and method. */
  private readonly series: { readonly [listener in ListenerName]: Map<string, Map<string, Series>> } = {
    client: new Map(),
    federation: new Map()
  }
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
    const begun = new RequestRecord(this, listener, this.count++)
    ;(request as Recorded)[record] = begun
    if (this.options.accessLog) {
      begun.address = request.socket.remoteAddress
      response.setHeader("x-request-id", begun.id)
    }
    this.inFlight[listener]++
    response.on("close", endRecord)
  }

  end(request: IncomingMessage, begun: RequestRecord, response: ServerResponse): void {
    const milliseconds = performance.now() - begun.begunAt
    this.inFlight[begun.listener]--
    if (this.options.metrics) this.measure(request.method ?? "", begun, response.statusCode, milliseconds)
    if (this.options.accessLog) this.write(request, begun, response, milliseconds)
  }

  private measure(
    asked: string,
    { listener, route = noRoute }: RequestRecord,
    status: number,
    milliseconds: number
  ): void {
    const method = methods.has(asked) ? asked : "other"
    const series = this.seriesOf(listener, route, method)
    series.duration.record(milliseconds / 1_000)
    let counter = series.byStatus.get(status)
    if (counter === undefined) {
      const labels = { listener, method, route, status: String(status) }
      counter = this.registry.counter("greenroom_http_requests_total", "Requests that were answered", labels)
      series.byStatus.set(status, counter)
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
    { headers, method, url }: IncomingMessage,
    { address, id, listener, user }: RequestRecord,
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

/** Whether the records contain users: there is an access log. */
export const recordsUsers: Effect.Effect<boolean> = Effect.map(
  Effect.service(RequestRecords),
  (log) => log?.options.accessLog === true
)

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

/**
 * The handler of a route, which adds the endpoint to the record, and if there is an access log the request ID to every line that it
 * logs.
 */
const recordingEndpoint = (path: string, handler: Route["handler"], accessLog: boolean): Route["handler"] =>
  Effect.withFiber((fiber) => {
    const request = Context.getUnsafe(fiber.context, HttpServerRequest.HttpServerRequest)
    const traced = isTraced(fiber.context) ? tracing(request.method, path, handler) : handler
    const found = recordOf(request)
    if (found === undefined) return traced
    found.route = path
    if (!accessLog) return traced
    found.address = addressOf(request)
    return Effect.annotateLogs(traced, "request", found.id)
  })

/** Registers the routes of a layer so that a request's record contains its endpoint. */
export const namingRoutes: Layer.Layer<HttpRouter.HttpRouter, never, HttpRouter.HttpRouter> = Layer.effect(
  HttpRouter.HttpRouter,
  Effect.gen(function* () {
    const router = yield* HttpRouter.HttpRouter
    const log = yield* RequestRecords
    if (log === undefined && (yield* SamplingRatio) === 0) return router
    const accessLog = log?.options.accessLog === true
    return HttpRouter.HttpRouter.of({
      ...router,
      addAll: (routes) =>
        router.addAll(
          routes.map((route) => ({
            ...route,
            handler: recordingEndpoint(route.path, route.handler, accessLog)
          })) as unknown as typeof routes
        )
    })
  })
)
