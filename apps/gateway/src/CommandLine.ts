/**
 * The command line of the gateway program.
 */
import type { Sources } from "@greenroom/gateway/SettingSources"
import * as SettingsCommand from "@greenroom/gateway/SettingsCommand"
import type * as Effect from "effect/Effect"
import { settings } from "./GatewayConfig.ts"
import { name, version } from "./GreenroomProgram.ts"

export { name, version }

/** Runs `start` with what the operator wrote. `--help` and `--version` print and do not run it. */
export const runCommandLine = <E, R>(
  args: ReadonlyArray<string>,
  environment: Sources["environment"],
  start: (sources: Sources) => Effect.Effect<void, E, R>
) =>
  SettingsCommand.runCommandLine(
    { name, description: "A Matrix home server.", version, settings, manual: "docs/configuration.md" },
    args,
    environment,
    start
  )

/** Services that `runCommandLine` needs beside the platform's. */
export const layer = SettingsCommand.layer(name)
