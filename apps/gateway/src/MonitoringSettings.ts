/**
 * The settings of metrics, traces and logs. A part of `GatewayConfig`.
 */
import type { LogFormat } from "@greenroom/gateway/Logging"
import {
  type Configuration,
  integer,
  optional,
  portExpects,
  setting,
  Text,
  Truth,
  truthExpects
} from "@greenroom/gateway/Setting"
import { Schema } from "effect"

export const monitoringSettings = {
  logFormat: setting<LogFormat>({
    name: "log_format",
    description: "How lines of the log are written",
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
  metricsHost: setting({
    name: "metrics.host",
    description: "The address to serve metrics on",
    expects: "an address or a host name",
    schema: Text,
    fallback: "127.0.0.1"
  }),
  metricsPort: optional({
    name: "metrics.port",
    description: "The port to serve metrics on, for Prometheus. Without it there are none",
    expects: portExpects,
    schema: integer(0, 65_535)
  })
} as const

export type MonitoringConfig = Configuration<typeof monitoringSettings>
