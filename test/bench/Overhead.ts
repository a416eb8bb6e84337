/**
 * The cost of a setting, in processor time of the gateway for each send: it bounds the throughput of a process, and depends little on
 * the load of the machine. Equal processes differ by several percent for as long as they live, by what their compiler chose. So each
 * round starts fresh gateways, with the setting and two without, that run side by side and are loaded in short turns in changing order;
 * the figure is the median of the differences of all rounds, with its spread. The difference of the two equal ones, in the first line,
 * says how far a figure can be trusted.
 */
import { atMost, type BenchmarkOptions, type Figure } from "./Benchmark.ts"
import { runLoad, startLoad } from "./LoadProcess.ts"
import type { Throughput } from "./load/Closed.ts"
import type { Senders, SendersInput } from "./load/senders.ts"
import type { SendsInput } from "./load/sends.ts"
import { median } from "./Percentiles.ts"
import { processorTime } from "./Processes.ts"
import { removeDirectory, type Server, type ServerOptions, startServer, temporaryDirectory } from "./Server.ts"

/** A gateway with a setting. */
export interface Variant {
  readonly what: string
  readonly environment: NonNullable<ServerOptions["environment"]>
  /** The most that it may cost, as a part of the processor time of a send. Absent: it is reported. */
  readonly most?: number
  /** Work in each turn beside the load. */
  readonly meanwhile?: (server: Server) => Promise<unknown>
}

/** A data directory with senders, on which a fresh gateway is started in each round. */
interface Prepared {
  readonly variant: Pick<Variant, "environment" | "meanwhile">
  readonly dataDir: string
  readonly senders: Senders
}

const without: Pick<Variant, "environment" | "meanwhile"> = { environment: {} }

const percent = (share: number): string => `${share >= 0 ? "+" : ""}${(share * 100).toFixed(1)} %`

/** The quarters of the values. */
const quartiles = (values: ReadonlyArray<number>): readonly [number, number] => {
  const sorted = values.toSorted((a, b) => a - b)
  const at = (share: number) => sorted[Math.round((sorted.length - 1) * share)]!
  return [at(0.25), at(0.75)]
}

/** The median, and between which values the middle half of the rounds lies. */
const withSpread = (values: ReadonlyArray<number>): string => {
  const [low, high] = quartiles(values)
  return `${percent(median(values))} (${percent(low)} to ${percent(high)})`
}

/** The standard error of a median, estimated from the middle half of the values. */
const uncertainty = (values: ReadonlyArray<number>): number => {
  const [low, high] = quartiles(values)
  return (1.25 * (high - low)) / (1.35 * Math.sqrt(values.length))
}

const time = (costs: ReadonlyArray<number>): string =>
  `${(median(costs) * 1_000).toFixed(0)} us of the processor a send`

interface Turns {
  /** How often all fresh gateways are started. */
  readonly rounds: number
  readonly senders: number
  /** Passes over the gateways, to and fro, that do not count, since programs are compiled, and that count. */
  readonly warmUp: number
  readonly passes: number
  readonly seconds: number
}

const prepare = async (variant: Prepared["variant"], dataDir: string, senders: number): Promise<Prepared> => {
  await using server = await startServer({ dataDir })
  return { variant, dataDir, senders: await runLoad<SendersInput, Senders>("senders", { url: server.url, senders }) }
}

/** Processor time of each gateway for each send, in ms, in one round of fresh processes. */
const costsOf = async (
  prepared: ReadonlyArray<Prepared>,
  { passes, seconds, warmUp }: Turns,
  round: number
): Promise<ReadonlyArray<number>> => {
  await using servers = new AsyncDisposableStack()
  const sends = servers.use(startLoad<SendsInput, Throughput>("sends"))
  const started = await Promise.all(
    prepared.map(async ({ dataDir, variant: { environment } }) =>
      servers.use(await startServer({ dataDir, environment }))
    )
  )
  const used = prepared.map(() => ({ count: 0, processor: 0 }))
  const take = async (index: number, run: string, counts: boolean) => {
    const { senders, variant } = prepared[index]!
    const server = started[index]!
    const before = processorTime(server.pid)
    const [{ count }] = await Promise.all([
      sends.run({ seconds, warmUp: 0, ...senders, url: server.url, today: true, run }),
      variant.meanwhile?.(server)
    ])
    if (!counts) return
    used[index]!.processor += processorTime(server.pid) - before
    used[index]!.count += count
  }
  for (let pass = 0; pass < warmUp + passes; pass++) {
    const order = [...prepared.keys()].map((index) => (index + round + pass) % prepared.length)
    for (const [position, index] of [...order, ...order.toReversed()].entries()) {
      await take(index, `overhead${round}.${pass}.${position}`, pass >= warmUp)
    }
  }
  return used.map(({ count, processor }) => processor / count)
}

/** Each variant against gateways without settings. */
export const overhead = async (
  options: BenchmarkOptions,
  variants: ReadonlyArray<Variant>
): Promise<ReadonlyArray<Figure>> => {
  const turns: Turns = options.quick
    ? { rounds: 1, senders: 8, warmUp: 0, passes: 1, seconds: 0.3 }
    : { rounds: 12, senders: 24, warmUp: 2, passes: 3, seconds: 0.7 }
  await using directories = new AsyncDisposableStack()
  const prepared: Array<Prepared> = []
  for (const variant of [without, without, ...variants]) {
    const dataDir = directories.adopt(await temporaryDirectory(), removeDirectory)
    prepared.push(await prepare(variant, dataDir, turns.senders))
  }
  const rounds: Array<ReadonlyArray<number>> = []
  for (let round = 0; round < turns.rounds; round++) rounds.push(await costsOf(prepared, turns, round))
  const baselines = rounds.map(([one, other]) => (one! + other!) / 2)
  const equal = rounds.map(([one, other]) => other! / one! - 1)
  return [
    {
      what: "two equal gateways",
      value: time(rounds.map(([, other]) => other!)),
      baseline: time(rounds.map(([one]) => one!)),
      ratio: withSpread(equal)
    },
    ...variants.map(({ most, what }, index) => {
      const costs = rounds.map((round) => round[index + 2]!)
      const differences = costs.map((cost, round) => cost / baselines[round]! - 1)
      const cost = median(differences)
      // Where equal gateways differ by more than the target, or the rounds by too much, there is too much noise for a verdict.
      const isCertain =
        most !== undefined && !options.quick && Math.abs(median(equal)) <= most && uncertainty(differences) <= most / 2
      return {
        what,
        value: time(costs),
        baseline: time(baselines),
        ratio: withSpread(differences),
        ...(isCertain ? { target: atMost(Math.round(cost * 1_000) / 10, most * 100, " %") } : {})
      }
    })
  ]
}
