/** The first page of sliding sync, and the cost of a message, for a user in very many rooms and for one in few. */
import { atMost, type Benchmark, count, type Figure, milliseconds, times } from "./Benchmark.ts"
import { runLoad } from "./LoadProcess.ts"
import type { SlidingSync, SlidingSyncInput, Sync } from "./load/slidingSync.ts"
import type { Percentiles } from "./Percentiles.ts"
import { startServer } from "./Server.ts"

const updates: ReadonlyArray<readonly [what: string, of: (sync: Sync) => Percentiles]> = [
  [", window of all", ({ message }) => message],
  [", window of 20", ({ windowed }) => windowed],
  [", window of 20 unencrypted", ({ filtered }) => filtered]
]

export const slidingSync: Benchmark = {
  name: "sliding-sync",
  measures: "the first page of 20 rooms of a user in 5,000 rooms; baseline: of a user in 50",
  run: async ({ quick }) => {
    const input = quick ? { many: 60, few: 30, turns: 3 } : { many: 5_000, few: 50, turns: 40 }
    await using server = await startServer()
    const { few, many } = await runLoad<SlidingSyncInput, SlidingSync>("slidingSync", { url: server.url, ...input })
    const ratio = many.page.p50 / few.page.p50
    return [
      {
        what: `first page, p50, of ${count(input.many)} rooms`,
        value: milliseconds(many.page.p50),
        baseline: milliseconds(few.page.p50),
        ratio: times(ratio),
        target: atMost(ratio, 1.5, " times")
      },
      { what: "  the first of all", value: milliseconds(many.first), baseline: milliseconds(few.first) },
      { what: "  size", value: `${count(many.size / 1024)} KB`, baseline: `${count(few.size / 1024)} KB` },
      ...updates.map(([what, of]): Figure => {
        const ratio = of(many).p50 / of(few).p50
        return {
          what: `  a message in one room${what}, p50`,
          value: milliseconds(of(many).p50),
          baseline: milliseconds(of(few).p50),
          ratio: times(ratio),
          target: atMost(ratio, 1.5, " times")
        }
      }),
      {
        what: "  nothing new in a window of all, p50",
        value: milliseconds(many.nothing.p50),
        baseline: milliseconds(few.nothing.p50)
      }
    ]
  }
}
