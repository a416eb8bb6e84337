/** How long a message takes to the last of 500 clients of today that wait by `/sync`. */
import { atMost, type Benchmark, milliseconds, times } from "./Benchmark.ts"
import { runLoad } from "./LoadProcess.ts"
import type { Audience, AudienceInput } from "./load/audience.ts"
import type { Delivered, DeliveryInput } from "./load/delivery.ts"
import { startServer } from "./Server.ts"

export const syncDelivery: Benchmark = {
  name: "sync-delivery",
  measures: "a message to 500 waiting /syncs; baseline: the draft's long polls of as many",
  run: async ({ quick }) => {
    const polls = quick ? 20 : 500
    const messages = quick ? 3 : 30
    await using server = await startServer()
    const audience = await runLoad<AudienceInput, Audience>("audience", { url: server.url, members: polls })
    const deliver = (bySync: boolean) =>
      runLoad<DeliveryInput, Delivered>("delivery", { ...audience, url: server.url, polls, messages, bySync })
    const theirs = await deliver(false)
    const ours = await deliver(true)
    const ratio = ours.last.p50 / theirs.last.p50
    return [
      {
        what: `to the last of ${polls} /syncs, p50`,
        value: milliseconds(ours.last.p50),
        baseline: milliseconds(theirs.last.p50),
        ratio: times(ratio),
        target: atMost(ratio, 1.3)
      },
      { what: "  p99", value: milliseconds(ours.last.p99), baseline: milliseconds(theirs.last.p99) },
      { what: "  to the first, p50", value: milliseconds(ours.first.p50), baseline: milliseconds(theirs.first.p50) }
    ]
  }
}
