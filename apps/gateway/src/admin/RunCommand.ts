/**
 * Runs a group of administrative commands as this process.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { runProgram } from "@greenroom/gateway/RunProgram"
import { mendJsonParse } from "@greenroom/protocol/JsonParse"
import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import * as Logger from "effect/Logger"
import * as References from "effect/References"
import * as CommandLine from "../CommandLine.ts"
import { describeFailure } from "../StartFailure.ts"

/** A command that needs only the services of the platform, with any options and errors. */
// biome-ignore lint/suspicious/noExplicitAny: names, options and errors are invariant, and nothing here looks at them.
export type AnyCommand = Command.Command<any, any, any, any, Command.Environment>

/** `greenroom NAME words...` as a program. Output goes to `Console`; `describeFailure` describes failures. */
export const commandProgram = (command: AnyCommand, words: ReadonlyArray<string>) =>
  Command.runWith(Command.make(CommandLine.name).pipe(Command.withSubcommands([command])), {
    version: CommandLine.version
  })([command.name, ...words]).pipe(
    Effect.provideService(References.MinimumLogLevel, "Error"),
    Effect.provide(Logger.layer([Logger.withConsoleError(Logger.formatLogFmt)])),
    Effect.provide(CommandLine.layer)
  )

/** Runs `greenroom NAME words...`. A failure is one line on standard error, and the exit code 1. */
export const runCommand = (command: AnyCommand, words: ReadonlyArray<string>): void => {
  mendJsonParse()
  runProgram(CommandLine.name, Effect.provide(commandProgram(command, words), NodeServices.layer), describeFailure)
}
