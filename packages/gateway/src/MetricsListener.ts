/**
 * The metrics of this process for Prometheus, at `/metrics` on a port of their own, which is for the operator alone.
 * docs/monitoring.md says what they mean.
 */
import type { IncomingMessage, ServerResponse } from "node:http"
import { Effect, Layer } from "effect"
import { PrometheusMetrics } from "effect/observability"
import type { ListenError } from "./ListenError.ts"
import { listen, makeNodeServer } from "./NodeServer.ts"
import * as ProcessMeasures from "./ProcessMeasures.ts"
import { pathOf } from "./RequestPath.ts"

/** The address of the metrics. */
export interface MetricsListenerOptions {
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  /** Updates the metrics that are measured only on a scrape. */
  readonly refresh: Effect.Effect<void>
}

const contentType = "text/plain; version=0.0.4; charset=utf-8"

const answer = (response: ServerResponse, status: number, body: string): void => {
  response.writeHead(status, { "content-type": contentType, "content-length": Buffer.byteLength(body) }).end(body)
}

/** Listens until the scope closes. */
export const layer = ({ host, port, refresh }: MetricsListenerOptions): Layer.Layer<never, ListenError> =>
  Layer.effectDiscard(
    Effect.gen(function* () {
      const refreshAll = Effect.all([yield* ProcessMeasures.make, refresh], { concurrency: "unbounded", discard: true })
      const run = Effect.runForkWith(yield* Effect.context<never>())
      const server = makeNodeServer()
      server.on("request", (request: IncomingMessage, response: ServerResponse) => {
        request.resume()
        if (pathOf(request.url ?? "") !== "/metrics") return answer(response, 404, "The metrics are at /metrics\n")
        run(
          refreshAll.pipe(
            Effect.andThen(PrometheusMetrics.format()),
            Effect.map((text) => answer(response, 200, text)),
            Effect.catchCause((cause) =>
              Effect.andThen(
                Effect.logError("The metrics could not be read", cause),
                Effect.sync(() => answer(response, 500, "The metrics could not be read, see the log\n"))
              )
            )
          )
        )
      })
      const address = yield* listen(server, { host, port })
      yield* Effect.log(`The metrics are at http://${host.includes(":") ? `[${host}]` : host}:${address.port}/metrics`)
    })
  )
