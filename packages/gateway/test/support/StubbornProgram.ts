/**
 * A program that does not end on SIGTERM: `waits` cannot be interrupted, `busy` blocks the event loop once the signal comes.
 * For `RunProgram.test.ts`.
 */
import { Console, Effect } from "effect"
import { runProgram } from "../../src/RunProgram.ts"

const waits = Effect.uninterruptible(Effect.never)

const blockEventLoop = () => {
  for (;;);
}

const busy = Effect.onInterrupt(Effect.never, () => Effect.sync(blockEventLoop))

runProgram(
  "stubborn",
  Effect.andThen(Console.log("ready"), process.argv[2] === "busy" ? busy : waits),
  () => undefined,
  100
)
