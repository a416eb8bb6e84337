/**
 * The cost of a setting, in processor time of the gateway for each send: it bounds the throughput of a process, and depends little on
 * the load of the machine. Equal processes differ by up to 20 % for as long as they live, by what their compiler chose and where their
 * objects lie, so gateways with and without the setting share one process (`load/gateways.ts`) and are loaded in short turns in
 * changing order. The figure is the median of the differences of all passes over them, with its spread. The difference of two equal
 * gateways, in the first line, says how far a figure can be trusted.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { Effect } from "effect"
import { v8Options } from "../../apps/gateway/src/NodeOptions.ts"
import { freePort } from "../support/FreePort.ts"
import { atMost, type BenchmarkOptions, type Figure } from "./Benchmark.ts"
import { type LoadProgram, runLoad, startLoad } from "./LoadProcess.ts"
import type { Throughput } from "./load/Closed.ts"
import type { GatewaySetting, GatewaysInput } from "./load/gateways.ts"
import type { Senders, SendersInput } from "./load/senders.ts"
import type { SendsInput } from "./load/sends.ts"
import { median } from "./Percentiles.ts"
import { processorTime } from "./Processes.ts"
import { removeDirectory, temporaryDirectory } from "./Server.ts"

/** A gateway with a setting. */
export interface Variant {
  readonly what: string
  readonly setting: GatewaySetting
  /** The most that it may cost, as a part of the processor time of a send. Absent: it is reported. */
  readonly most?: number
  /** Work in each turn beside the load. `metrics` is the address of the process' metrics. */
  readonly meanwhile?: (metrics: string) => Promise<unknown>
}

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
  readonly senders: number
  /** Passes over the gateways, to and fro, that do not count, since programs are compiled, and that count. */
  readonly warmUp: number
  readonly passes: number
  readonly seconds: number
}

type Gateways = LoadProgram<GatewaysInput, ReadonlyArray<string>>

/** Processor time for each send in each pass, in ms, by gateway. The first two have no setting. */
const measure = async (
  gateways: Gateways,
  dataDir: string,
  variants: ReadonlyArray<Pick<Variant, "meanwhile" | "setting">>,
  { passes, seconds, senders: count, warmUp }: Turns
): Promise<ReadonlyArray<ReadonlyArray<number>>> => {
  const metricsPort = await Effect.runPromise(freePort)
  const urls = await gateways.run({ dataDir, metricsPort, settings: variants.map(({ setting }) => setting) })
  const senders = await runLoad<SendersInput, Senders>("senders", { url: urls[0]!, senders: count })
  using sends = startLoad<SendsInput, Throughput>("sends")
  const take = async (index: number, run: string) => {
    const before = processorTime(gateways.pid)
    const [{ count }] = await Promise.all([
      sends.run({ seconds, warmUp: 0, ...senders, url: urls[index]!, today: true, run }),
      variants[index]!.meanwhile?.(`http://127.0.0.1:${metricsPort}/metrics`)
    ])
    return { count, processor: processorTime(gateways.pid) - before }
  }
  const costs: Array<ReadonlyArray<number>> = []
  for (let pass = 0; pass < warmUp + passes; pass++) {
    const used = variants.map(() => ({ count: 0, processor: 0 }))
    const order = variants.map((_, index) => (index + pass) % variants.length)
    for (const [position, index] of [...order, ...order.toReversed()].entries()) {
      const { count, processor } = await take(index, `overhead${pass}.${position}`)
      used[index]!.count += count
      used[index]!.processor += processor
      // What the followers of the log do for the last sends belongs to no turn.
      await sleep(50)
    }
    if (pass >= warmUp) costs.push(used.map(({ count, processor }) => processor / count))
  }
  return costs
}

/** Each variant against gateways without settings. */
export const overhead = async (
  options: BenchmarkOptions,
  variants: ReadonlyArray<Variant>
): Promise<ReadonlyArray<Figure>> => {
  const turns: Turns = options.quick
    ? { senders: 8, warmUp: 0, passes: 1, seconds: 0.3 }
    : { senders: 24, warmUp: 6, passes: 24, seconds: 1 }
  await using directory = new AsyncDisposableStack()
  const dataDir = directory.adopt(await temporaryDirectory(), removeDirectory)
  using gateways = startLoad<GatewaysInput, ReadonlyArray<string>>("gateways", v8Options)
  const without = { setting: {} }
  const costs = await measure(gateways, dataDir, [without, without, ...variants], turns).finally(() =>
    gateways.run({ end: true })
  )
  const baselines = costs.map(([one, other]) => (one! + other!) / 2)
  const equal = costs.map(([one, other]) => other! / one! - 1)
  return [
    {
      what: "two equal gateways",
      value: time(costs.map(([, other]) => other!)),
      baseline: time(costs.map(([one]) => one!)),
      ratio: withSpread(equal)
    },
    ...variants.map(({ most, what }, index) => {
      const each = costs.map((pass) => pass[index + 2]!)
      const differences = each.map((cost, pass) => cost / baselines[pass]! - 1)
      const cost = median(differences)
      // Where equal gateways differ by more than the target, or the passes by too much, there is too much noise for a verdict.
      const isCertain =
        most !== undefined && !options.quick && Math.abs(median(equal)) <= most && uncertainty(differences) <= most / 2
      return {
        what,
        value: time(each),
        baseline: time(baselines),
        ratio: withSpread(differences),
        ...(isCertain ? { target: atMost(Math.round(cost * 1_000) / 10, most * 100, " %") } : {})
      }
    })
  ]
}
