import { assert, describe, it } from "@effect/vitest"
import { freePort } from "@greenroom/store/testing/FreePort"
import * as TestDatabase from "@greenroom/store/testing/TestDatabase"
import { Effect, Redacted } from "effect"
import { startExample } from "./startExample.ts"

const counts = (output: string): ReadonlyArray<number> =>
  [...output.matchAll(/^!\S+: (\d+) messages?$/gm)].map(([, count]) => Number(count))

/** How many messages were counted: a counter that begins again starts from zero. */
const additions = (counts: ReadonlyArray<number>): number =>
  counts.reduce((sum, count, index) => {
    const last = counts[index - 1] ?? 0
    return sum + (count > last ? count - last : count)
  }, 0)

describe("RoomCounter", () => {
  it.live(
    "an actor of the program counts the messages of a room once, whichever of two nodes they are sent through",
    () =>
      Effect.gen(function* () {
        const environment = { DATABASE_URL: Redacted.value(yield* TestDatabase.url) }
        const ports = [yield* freePort, yield* freePort]
        const start = (port: number) => startExample("RoomCounter", [`${port}`], environment)
        const first = yield* start(ports[0]!)
        yield* first.until((output) => output.includes("is in !"))
        const second = yield* start(ports[1]!)
        yield* second.until((output) => output.includes("is in !"))
        const nodes = [first, second]
        const added = () => nodes.reduce((sum, { output }) => sum + additions(counts(output())), 0)
        const highest = () => Math.max(0, ...nodes.flatMap(({ output }) => counts(output())))
        // While the second node takes its shards, the counter may begin again there, and a message may be counted by neither.
        let sent = 0
        while (highest() < 6) {
          const before = added()
          nodes[sent++ % 2]!.write(`${sent}\n`)
          yield* Effect.timeoutOption(
            first.until(() => added() > before),
            "5 seconds"
          )
        }
        assert.isAtMost(added(), sent)
      }).pipe(Effect.scoped),
    180_000
  )
})
