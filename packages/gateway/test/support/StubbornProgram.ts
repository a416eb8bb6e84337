/**
 * A program that does not end on SIGTERM by itself: `waits` refuses to be interrupted, `busy` holds the event loop for
 * ever from the signal on. `RunProgram.test.ts` ends it.
 */
import { Console, Effect } from "effect"
import { runProgram } from "../../src/RunProgram.ts"

const waits = Effect.uninterruptible(Effect.never)

const holdEventLoop = () => {
  for (;;);
}

const busy = Effect.onInterrupt(Effect.never, () => Effect.sync(holdEventLoop))

runProgram(
  "stubborn",
  Effect.andThen(Console.log("ready"), process.argv[2] === "busy" ? busy : waits),
  () => undefined,
  100
)
