/**
 * Secrets for administrative commands: from standard input, never from an argument, which other users of the machine could see.
 */

import * as Prompt from "effect/cli/Prompt"
import * as Effect from "effect/Effect"
import * as Redacted from "effect/Redacted"
import * as Stdio from "effect/Stdio"
import * as Stream from "effect/Stream"
import { AdminFailure } from "./CommandOutput.ts"

/** The first line of standard input. */
export const firstLine = Effect.gen(function* () {
  const stdio = yield* Stdio.Stdio
  const text = yield* Stream.mkString(Stream.decodeText(stdio.stdin))
  return text.split(/\r?\n/, 1)[0] ?? ""
}).pipe(Effect.mapError(() => new AdminFailure({ message: "standard input could not be read" })))

/** Reads a secret: by a prompt without echo if standard input is a terminal, else its first line. */
export const readSecret = Effect.fnUntraced(function* (what: string) {
  const stdio = yield* Stdio.Stdio
  if (!(yield* stdio.stdinIsTerminal)) return Redacted.make(yield* firstLine)
  return yield* Effect.mapError(
    Prompt.run(Prompt.Password({ message: what })),
    () => new AdminFailure({ message: "No password was given" })
  )
})
