/** How long a message takes from the request of its sender to the last of 500 long polls and 500 sockets. */
import { type Benchmark, milliseconds } from "./Benchmark.ts"
import { runLoad, startBareServer } from "./LoadProcess.ts"
import type { Audience, AudienceInput } from "./load/audience.ts"
import type { Delivered, DeliveryInput } from "./load/delivery.ts"
import { startServer } from "./Server.ts"

export const delivery: Benchmark = {
  name: "delivery",
  measures: "a message to 500 long polls and 500 sockets in its room; baseline: node:http and ws alone, nothing stored",
  run: async ({ quick }) => {
    const polls = quick ? 20 : 500
    const messages = quick ? 3 : 50
    await using server = await startServer()
    using bare = await startBareServer()
    const audience = await runLoad<AudienceInput, Audience>("audience", { url: server.url, members: 2 * polls })
    const deliver = (url: string) =>
      runLoad<DeliveryInput, Delivered>("delivery", { ...audience, url, polls, messages })
    const ours = await deliver(server.url)
    const theirs = await deliver(bare.url)
    const line = (what: string, time: "answered" | "first" | "last", percentile: "p50" | "p99") => ({
      what,
      value: milliseconds(ours[time][percentile]),
      baseline: milliseconds(theirs[time][percentile])
    })
    return [
      line(`to the last of ${2 * polls}, p50`, "last", "p50"),
      line(`to the last of ${2 * polls}, p99`, "last", "p99"),
      line("  to the first, p50", "first", "p50"),
      line("  until the sender's answer, p50", "answered", "p50")
    ]
  }
}
