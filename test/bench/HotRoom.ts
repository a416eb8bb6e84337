/** Sends that are durable when they are answered, all in one room, against the same number of rooms. */
import { atLeast, type Benchmark, milliseconds, ofBaseline, perSecond } from "./Benchmark.ts"
import { pairedRatio, rounds, senderCount, typical } from "./DurableSends.ts"
import { runLoad } from "./LoadProcess.ts"
import type { Throughput } from "./load/ClosedLoop.ts"
import type { Senders, SendersInput } from "./load/senders.ts"
import type { SendsInput } from "./load/sends.ts"
import { startServer } from "./Server.ts"

export const hotRoom: Benchmark = {
  name: "hot-room",
  measures: "durable sends by HTTP, all senders in one room",
  run: async (options) => {
    const { rounds: total, ...loop } = rounds(options)
    const senders = senderCount(options)
    await using server = await startServer()
    const { rooms, tokens } = await runLoad<SendersInput, Senders>("senders", { url: server.url, senders })
    const send = (chosen: ReadonlyArray<string>, run: string) =>
      runLoad<SendsInput, Throughput>("sends", { ...loop, url: server.url, tokens, rooms: chosen, run })
    const many: Array<Throughput> = []
    const one: Array<Throughput> = []
    for (let round = 0; round < total; round++) {
      many.push(await send(rooms, `many${round}`))
      one.push(
        await send(
          rooms.map(() => rooms[0]!),
          `one${round}`
        )
      )
    }
    const apart = typical(many)
    const together = typical(one)
    const ratio = pairedRatio(one, many)
    return [
      {
        what: `${senders} senders in one room`,
        value: perSecond(together.perSecond, "events"),
        baseline: `${perSecond(apart.perSecond, "events")}, ${senders} rooms`,
        ratio: ofBaseline(ratio),
        target: atLeast(ratio, 0.6)
      },
      { what: "  until the answer, p50", value: milliseconds(together.p50), baseline: milliseconds(apart.p50) },
      { what: "  until the answer, p99", value: milliseconds(together.p99), baseline: milliseconds(apart.p99) }
    ]
  }
}
