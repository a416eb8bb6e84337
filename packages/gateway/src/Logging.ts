/**
 * How a program logs: readable lines on a terminal, one line of `key=value` each elsewhere.
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

/**
 * Logs what is at least as serious as the level. Traces go nowhere yet, so none are made: they would cost every request
 * a good part of its time.
 */
export const logging = (level: LogLevelName): Layer.Layer<never> =>
  Layer.mergeAll(
    Logger.layer([process.stdout.isTTY ? Logger.consolePretty() : Logger.consoleLogFmt]),
    Layer.succeed(References.MinimumLogLevel, minimumLevel[level]),
    Layer.succeed(References.TracerEnabled, false)
  )
