/**
 * How a program logs: readable lines on a terminal, one line of `key=value` or JSON each elsewhere.
 */
import { Layer, Logger, References } from "effect"
import type { LogLevelName } from "./Setting.ts"

const minimumLevel = {
  trace: "Trace",
  debug: "Debug",
  info: "Info",
  warn: "Warn",
  error: "Error",
  none: "None"
} as const satisfies { readonly [name in LogLevelName]: string }

/** `text` is for people, `json` one object a line. */
export type LogFormat = "text" | "json"

const loggerOf = (format: LogFormat) =>
  format === "json" ? Logger.consoleJson : process.stdout.isTTY ? Logger.consolePretty() : Logger.consoleLogFmt

/**
 * Logs messages of at least this level. Without an exporter no traces are made: they would cost every request a good part of
 * its time.
 */
export const logging = (level: LogLevelName, format: LogFormat = "text"): Layer.Layer<never> =>
  Layer.mergeAll(
    Logger.layer([loggerOf(format)]),
    Layer.succeed(References.MinimumLogLevel, minimumLevel[level]),
    Layer.succeed(References.TracerEnabled, false)
  )
