/** How long a message takes to the last of 500 clients of today that wait by `/sync`. */
import { atMost, type Benchmark, milliseconds, times } from "./Benchmark.ts"
import { runLoad } from "./LoadProcess.ts"
import type { Audience, AudienceInput } from "./load/audience.ts"
import type { Delivered, DeliveryInput } from "./load/delivery.ts"
import { median } from "./Percentiles.ts"
import { startServer } from "./Server.ts"

export const syncDelivery: Benchmark = {
  name: "sync-delivery",
  measures: "a message to 500 waiting /syncs; baseline: the draft's long polls of as many",
  run: async ({ quick }) => {
    const polls = quick ? 20 : 500
    const { messages, rounds } = quick ? { messages: 3, rounds: 1 } : { messages: 20, rounds: 3 }
    await using server = await startServer()
    const audience = await runLoad<AudienceInput, Audience>("audience", { url: server.url, members: polls })
    const deliver = (bySync: boolean, run: string) =>
      runLoad<DeliveryInput, Delivered>("delivery", { ...audience, url: server.url, polls, messages, bySync, run })
    // Both take turns, so that neither is the one that compiles the program; the first round does not count.
    const theirs: Array<Delivered> = []
    const ours: Array<Delivered> = []
    for (let round = quick ? 0 : -1; round < rounds; round++) {
      const found = [await deliver(false, `round${round}`), await deliver(true, `round${round}`)] as const
      if (round < 0) continue
      theirs.push(found[0])
      ours.push(found[1])
    }
    const typical = (runs: ReadonlyArray<Delivered>, of: (run: Delivered) => number) =>
      milliseconds(median(runs.map(of)))
    const ratio = median(ours.map(({ last }, round) => last.p50 / theirs[round]!.last.p50))
    return [
      {
        what: `to the last of ${polls} /syncs, p50`,
        value: typical(ours, ({ last }) => last.p50),
        baseline: typical(theirs, ({ last }) => last.p50),
        ratio: times(ratio),
        target: atMost(ratio, 1.3)
      },
      {
        what: "  p99",
        value: typical(ours, ({ last }) => last.p99),
        baseline: typical(theirs, ({ last }) => last.p99)
      },
      {
        what: "  to the first, p50",
        value: typical(ours, ({ first }) => first.p50),
        baseline: typical(theirs, ({ first }) => first.p50)
      }
    ]
  }
}
