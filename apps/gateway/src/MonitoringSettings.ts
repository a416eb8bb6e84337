/**
 * The settings of metrics, traces and logs. A part of `GatewayConfig`.
 */
import type { LogFormat } from "@greenroom/gateway/Logging"
import { listenPort, optional, setting, Text, Truth, truthExpects } from "@greenroom/gateway/Setting"
import * as Schema from "effect/Schema"
import * as SchemaTransformation from "effect/SchemaTransformation"

/** A number from 0 to 1. */
const Ratio: Schema.Codec<number, string> = Schema.String.check(Schema.isPattern(/^(0(\.[0-9]{1,9})?|1(\.0)?)$/)).pipe(
  Schema.decodeTo(Schema.Number, SchemaTransformation.transform<number, string>({ decode: Number, encode: String }))
)

export const monitoringSettings = {
  logFormat: setting<LogFormat>({
    name: "log_format",
    description: "The format of log lines",
    expects: "text or json",
    schema: Schema.Literals(["text", "json"]),
    fallback: "text",
    flag: "format"
  }),
  accessLog: setting({
    name: "access_log",
    description: "Log every request: endpoint, user, status and time",
    expects: truthExpects,
    schema: Truth,
    fallback: false,
    flag: "switch"
  }),
  tracingEndpoint: optional({
    name: "tracing.endpoint",
    description: "The OpenTelemetry collector that receives traces, by OTLP over HTTP",
    expects: "a URL such as http://127.0.0.1:4318",
    schema: Schema.String.check(Schema.isPattern(/^https?:\/\/[^\s]+$/))
  }),
  tracingRatio: setting({
    name: "tracing.ratio",
    description: "The traced fraction of requests and of transactions to other servers",
    expects: "a number from 0 to 1, such as 0.01",
    schema: Ratio,
    fallback: 0.01
  }),
  metricsHost: setting({
    name: "metrics.host",
    description: "The address on which metrics are served",
    expects: "an address or a host name",
    schema: Text,
    fallback: "127.0.0.1"
  }),
  metricsPort: optional({
    name: "metrics.port",
    description: "The port on which Prometheus metrics are served. Without it no metrics are served",
    ...listenPort
  })
} as const
