/** The cost of an event that forks the graph of a room from before thousands of membership changes. */
import { atMost, type Benchmark, count } from "./Benchmark.ts"
import { runLoad } from "./LoadProcess.ts"
import type { ForkedEvents, ForkedEventsInput } from "./load/forkedEvents.ts"
import { removeDirectory, temporaryDirectory } from "./Server.ts"

const tenths = (value: number): string => `${value.toFixed(1)} ms`

export const resolution: Benchmark = {
  name: "resolution",
  measures: "an event that forks from before 2,000 membership changes; baseline: one that follows all of them",
  run: async ({ quick }) => {
    const changes = quick ? 100 : 2_000
    const dataDir = await temporaryDirectory()
    try {
      const { forked, next } = await runLoad<ForkedEventsInput, ForkedEvents>("forkedEvents", {
        dataDir,
        changes,
        forks: quick ? 2 : 11
      })
      return [
        {
          what: `processor time of an event that forks, after ${count(changes)} membership changes`,
          value: tenths(forked),
          baseline: `${tenths(next)} for the next event`,
          target: atMost(forked, 50, " ms")
        }
      ]
    } finally {
      await removeDirectory(dataDir)
    }
  }
}
