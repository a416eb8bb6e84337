/**
 * Runs a group of administrative commands as this process.
 */
import * as NodeServices from "@effect/platform-node/NodeServices"
import { runProgram } from "@greenroom/gateway/RunProgram"
import { mendJsonParse } from "@greenroom/protocol/JsonParse"
import { Effect, References } from "effect"
import { Command } from "effect/cli"
import * as CommandLine from "../CommandLine.ts"
import { describeFailure } from "../StartFailure.ts"

/** A command that needs nothing but the platform, whatever its options and errors are. */
// biome-ignore lint/suspicious/noExplicitAny: names, options and errors are invariant, and nothing here looks at them.
export type AnyCommand = Command.Command<any, any, any, any, Command.Environment>

/** Runs `greenroom NAME words...`. A failure is one line on standard error, and the exit code 1. */
export const runCommand = (command: AnyCommand, words: ReadonlyArray<string>): void => {
  mendJsonParse()
  const root = Command.make(CommandLine.name).pipe(Command.withSubcommands([command]))
  runProgram(
    CommandLine.name,
    Command.runWith(root, { version: CommandLine.version })([command.name, ...words]).pipe(
      Effect.provideService(References.MinimumLogLevel, "Error"),
      Effect.provide([CommandLine.layer, NodeServices.layer])
    ),
    describeFailure
  )
}
