/**
 * Sends traces to a collector of OpenTelemetry by OTLP over HTTP, as JSON.
 */
import { SamplingRatio } from "@greenroom/actors/runtime/Sampling"
import { Layer } from "effect"
import { FetchHttpClient } from "effect/http"
import { OtlpExporter, OtlpSerialization, OtlpTracer } from "effect/observability"

/** Where traces are sent, and how many. */
export interface TracingOptions {
  /** The collector, such as `http://127.0.0.1:4318`. */
  readonly endpoint: string
  /** The part of requests and of transactions to other servers that is traced, from 0 to 1. */
  readonly ratio: number
  readonly serviceName: string
  readonly serviceVersion: string
}

/** Sends the spans of the program to the collector. */
export const layer = ({ endpoint, ratio, serviceName, serviceVersion }: TracingOptions): Layer.Layer<never> =>
  Layer.merge(
    Layer.succeed(SamplingRatio, ratio),
    OtlpTracer.layer({
      url: `${endpoint.replace(/\/+$/, "")}/v1/traces`,
      resource: { serviceName, serviceVersion },
      exportInterval: "1 second"
    }).pipe(Layer.provide([OtlpSerialization.layerJson, OtlpExporter.layerFlusher, FetchHttpClient.layer]))
  )
