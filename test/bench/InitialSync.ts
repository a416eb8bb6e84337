/** The first request of a client: initialSync of a user in 200 rooms with 20 messages of each. */
import { atMost, type Benchmark, count, milliseconds, times } from "./Benchmark.ts"
import { runLoad, startBareServer } from "./LoadProcess.ts"
import type { InitialSync, InitialSyncInput } from "./load/initialSync.ts"
import { startServer } from "./Server.ts"

export const initialSync: Benchmark = {
  name: "initial-sync",
  measures: "initialSync of a user in 200 rooms, limit 20; baseline: as many bytes from node:http alone",
  run: async ({ quick }) => {
    const input = quick ? { rooms: 5, limit: 20, turns: 3 } : { rooms: 200, limit: 20, turns: 20 }
    await using server = await startServer()
    using bare = await startBareServer()
    const ours = await runLoad<InitialSyncInput, InitialSync>("initialSync", { url: server.url, ...input })
    const size = ours.size
    const theirs = await runLoad<InitialSyncInput, InitialSync>("initialSync", { url: bare.url, ...input, size })
    const today = await runLoad<InitialSyncInput, InitialSync>("initialSync", {
      url: server.url,
      ...input,
      syncAs: ours.token
    })
    const ratio = today.p50 / ours.p50
    const kilobytes = (bytes: number) => `${count(bytes / 1024)} KB`
    return [
      { what: `${input.rooms} rooms, p50`, value: milliseconds(ours.p50), baseline: milliseconds(theirs.p50) },
      { what: "  the slowest", value: milliseconds(ours.max), baseline: milliseconds(theirs.max) },
      { what: "  size", value: kilobytes(ours.size), baseline: kilobytes(theirs.size) },
      {
        what: "  by /sync with lazy members, p50",
        value: milliseconds(today.p50),
        baseline: `${milliseconds(ours.p50)}, initialSync`,
        ratio: times(ratio),
        target: atMost(ratio, 1.3)
      },
      { what: "    size", value: kilobytes(today.size), baseline: kilobytes(ours.size) }
    ]
  }
}
