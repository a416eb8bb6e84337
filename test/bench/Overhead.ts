/**
 * The cost of a setting: gateways with and without it, which are loaded in turns, always in the same order. The processor time of the gateway for each
 * send is compared: it is what bounds the throughput of a process, and does not depend on what else the machine does.
 */
import { atMost, type BenchmarkOptions, type Figure, perSecond } from "./Benchmark.ts"
import { senderCount } from "./DurableSends.ts"
import { runLoad } from "./LoadProcess.ts"
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
  /** Work in each round beside the load. */
  readonly meanwhile?: (server: Server) => Promise<unknown>
}

/** One round of one gateway. */
interface Round {
  readonly perSecond: number
  /** Processor time of the gateway for each send, in ms. */
  readonly cost: number
}

/** A gateway that is measured. */
interface Measured {
  readonly server: Server
  readonly prepared: Senders
  readonly rounds: Array<Round>
}

/** A gateway that rested while others were measured gives back memory and compiled code, so that its first sends cost more. */
const warmUpSeconds = 2

const measure = async ({ server, prepared }: Measured, seconds: number, run: string): Promise<Round> => {
  const load = (of: { readonly seconds: number; readonly run: string }) =>
    runLoad<SendsInput, Throughput>("sends", { warmUp: 0, ...prepared, url: server.url, today: true, ...of })
  await load({ seconds: Math.min(warmUpSeconds, seconds), run: `${run}-warm-up` })
  const before = processorTime(server.pid)
  const sends = await load({ seconds, run })
  return {
    perSecond: sends.perSecond,
    cost: (processorTime(server.pid) - before) / (sends.perSecond * seconds)
  }
}

/** The ratio of each round to the one of the baseline beside it, in the middle of all rounds. */
const ratioOf = (measured: Measured, baseline: Measured, of: keyof Round): number =>
  median(measured.rounds.map((round, index) => round[of] / baseline.rounds[index]![of]))

const figuresOf = ({ most, what }: Variant, measured: Measured, baseline: Measured): ReadonlyArray<Figure> => {
  const cost = ratioOf(measured, baseline, "cost")
  const typical = ({ rounds }: Measured, of: keyof Round) => median(rounds.map((round) => round[of]))
  const time = (which: Measured) => `${(typical(which, "cost") * 1_000).toFixed(0)} us of the processor a send`
  return [
    {
      what,
      value: time(measured),
      baseline: time(baseline),
      ratio: `${cost >= 1 ? "+" : ""}${((cost - 1) * 100).toFixed(1)} %`,
      ...(most === undefined ? {} : { target: atMost(Math.round((cost - 1) * 1_000) / 10, most * 100, " %") })
    },
    {
      what: "  events",
      value: perSecond(typical(measured, "perSecond"), "events"),
      baseline: perSecond(typical(baseline, "perSecond"), "events"),
      ratio: `${ratioOf(measured, baseline, "perSecond").toFixed(2)} of it`
    }
  ]
}

/** Each variant against a gateway without settings. */
export const overhead = async (
  options: BenchmarkOptions,
  variants: ReadonlyArray<Variant>
): Promise<ReadonlyArray<Figure>> => {
  const { rounds, seconds } = options.quick ? { rounds: 1, seconds: 0.5 } : { rounds: 9, seconds: 4 }
  const all: ReadonlyArray<Variant> = [{ what: "", environment: {} }, ...variants]
  await using servers = new AsyncDisposableStack()
  const measured: Array<Measured> = []
  for (const { environment } of all) {
    const server = servers.use(await startServer({ environment }))
    const prepared = await runLoad<SendersInput, Senders>("senders", {
      url: server.url,
      senders: senderCount(options)
    })
    measured.push({ server, prepared, rounds: [] })
  }
  // The first round compiles the programs and does not count. The order stays, so that all rest equally long before their turn.
  for (let round = -1; round < rounds; round++) {
    for (const [index, target] of measured.entries()) {
      const [found] = await Promise.all([
        measure(target, seconds, `overhead${round}`),
        all[index]!.meanwhile?.(target.server)
      ])
      if (round >= 0) target.rounds.push(found)
    }
  }
  const [baseline, ...others] = measured
  return others.flatMap((other, index) => figuresOf(variants[index]!, other, baseline!))
}
