/**
 * The cost of a setting, in processor time of the gateway for each send: it bounds the throughput of a process, and depends little on
 * the load of the machine. Gateways with the setting and two without run side by side and are loaded in short turns, so
 * that a round meets all of them alike; the ratio of the two equal ones says how far a figure can be trusted.
 */
import { atMost, type BenchmarkOptions, type Figure, perSecond } from "./Benchmark.ts"
import { senderCount } from "./DurableSends.ts"
import { runLoad, startLoad } from "./LoadProcess.ts"
import type { Throughput } from "./load/Closed.ts"
import type { Senders, SendersInput } from "./load/senders.ts"
import type { SendsInput } from "./load/sends.ts"
import { median } from "./Percentiles.ts"
import { processorTime } from "./Processes.ts"
import { type Server, type ServerOptions, startServer } from "./Server.ts"

/** A gateway with a setting. */
export interface Variant {
  readonly what: string
  readonly environment: NonNullable<ServerOptions["environment"]>
  /** The most that it may cost, as a part of the processor time of a send. Absent: it is reported. */
  readonly most?: number
  /** Work in each turn beside the load. */
  readonly meanwhile?: (server: Server) => Promise<unknown>
}

/** A gateway that is measured. */
interface Measured {
  readonly server: Server
  readonly prepared: Senders
  /** Processor time for each send, in ms, and sends a second, by round. */
  readonly costs: Array<number>
  readonly rates: Array<number>
}

const without: Pick<Variant, "environment" | "meanwhile"> = { environment: {} }

/** The ratio of each round to the same round of the baselines, in the middle of all rounds. */
const ratioOf = (costs: ReadonlyArray<number>, ...baselines: ReadonlyArray<ReadonlyArray<number>>): number =>
  median(costs.map((cost, round) => (cost * baselines.length) / baselines.reduce((sum, of) => sum + of[round]!, 0)))

const percent = (ratio: number): string => `${ratio >= 1 ? "+" : ""}${((ratio - 1) * 100).toFixed(1)} %`

const time = ({ costs }: Measured): string => `${(median(costs) * 1_000).toFixed(0)} us of the processor a send`

/** Each variant against gateways without settings. */
export const overhead = async (
  options: BenchmarkOptions,
  variants: ReadonlyArray<Variant>
): Promise<ReadonlyArray<Figure>> => {
  const { rounds, ...turn } = options.quick
    ? { rounds: 1, seconds: 0.3, warmUp: 0 }
    : { rounds: 40, seconds: 1, warmUp: 0 }
  const all = [without, without, ...variants]
  await using servers = new AsyncDisposableStack()
  const sends = servers.use(startLoad<SendsInput, Throughput>("sends"))
  const measured: Array<Measured> = []
  for (const { environment } of all) {
    const server = servers.use(await startServer({ environment }))
    const prepared = await runLoad<SendersInput, Senders>("senders", { url: server.url, senders: senderCount(options) })
    measured.push({ server, prepared, costs: [], rates: [] })
  }
  // The first rounds compile the programs and do not count.
  for (let round = options.quick ? 0 : -4; round < rounds; round++) {
    const first = Math.abs(round) % all.length
    const order = [...measured.keys()].map((index) => (index + first) % all.length)
    const used = measured.map(() => ({ count: 0, processor: 0, rate: 0 }))
    for (const [position, index] of [...order, ...order.toReversed()].entries()) {
      const { prepared, server } = measured[index]!
      const before = processorTime(server.pid)
      const [{ count, perSecond: rate }] = await Promise.all([
        sends.run({ ...turn, ...prepared, url: server.url, today: true, run: `overhead${round}.${position}` }),
        all[index]!.meanwhile?.(server)
      ])
      const sum = used[index]!
      sum.processor += processorTime(server.pid) - before
      sum.count += count
      sum.rate += rate / 2
    }
    if (round < 0) continue
    for (const [index, { count, processor, rate }] of used.entries()) {
      measured[index]!.costs.push(processor / count)
      measured[index]!.rates.push(rate)
    }
  }
  const [one, other, ...varied] = measured as [Measured, Measured, ...Array<Measured>]
  const difference = ratioOf(other.costs, one.costs)
  return [
    {
      what: "two equal gateways",
      value: time(other),
      baseline: time(one),
      ratio: percent(difference)
    },
    ...varied.flatMap((variant, index) => {
      const { most, what } = variants[index]!
      const cost = ratioOf(variant.costs, one.costs, other.costs)
      return [
        {
          what,
          value: time(variant),
          baseline: time(one),
          ratio: percent(cost),
          // Where two equal gateways differ by more than the target there is too much noise for a verdict.
          ...(most === undefined || options.quick || Math.abs(difference - 1) > most
            ? {}
            : { target: atMost(Math.round((cost - 1) * 1_000) / 10, most * 100, " %") })
        },
        {
          what: "  events",
          value: perSecond(median(variant.rates), "events"),
          baseline: perSecond(median(one.rates), "events"),
          ratio: percent(ratioOf(variant.rates, one.rates, other.rates))
        }
      ]
    })
  ]
}
