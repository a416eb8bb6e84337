/**
 * The cost of a setting, in processor time of the gateway for each send: it bounds the throughput of a process, and depends little on
 * the load of the machine. Equal processes differ by up to 20 % for as long as they live, by what their compiler chose and where their
 * objects lie, so gateways with and without the setting share one process (`load/gateways.ts`) and are loaded in short turns, to and
 * fro. All turns have the same number of sends, begin with a collected heap, and last until the work that the sends left behind is done,
 * so that each pays for its own. The figure compares the sums of all turns. The difference of two equal gateways, in the first line, and the
 * standard errors say how far a figure can be trusted.
 */
import { setTimeout as sleep } from "node:timers/promises"
import { freePort } from "@greenroom/store/testing/FreePort"
import { Effect } from "effect"
import { v8Options } from "../../apps/gateway/src/NodeOptions.ts"
import { atMost, type BenchmarkOptions, type Figure } from "./Benchmark.ts"
import { type LoadProgram, runLoad, startLoad } from "./LoadProcess.ts"
import type { CountedSendsInput } from "./load/countedSends.ts"
import type { GatewaySetting, GatewaysInput } from "./load/gateways.ts"
import type { Senders, SendersInput } from "./load/senders.ts"
import { exactProcessorTime } from "./Processes.ts"
import { removeDirectory, temporaryDirectory } from "./Server.ts"

/** A gateway with a setting. */
export interface Variant {
  readonly what: string
  readonly setting: GatewaySetting
  /** The most that it may cost, as a part of the processor time of a send. Absent: it is reported. */
  readonly most?: number
  /** Work beside the load, once in each second of the turns. `metrics` is the address of the process' metrics. */
  readonly everySecond?: (metrics: string) => Promise<unknown>
}

interface Turns {
  readonly senders: number
  /** How many messages each sends in a turn. */
  readonly each: number
  /** Passes over the gateways, to and fro, that do not count, since programs are compiled, and that count. */
  readonly warmUp: number
  readonly passes: number
}

type Gateways = LoadProgram<GatewaysInput, ReadonlyArray<string>>

/** Processor time for each send in each pass, in ms, by gateway. `settle` is how long work may follow the last send of a turn, in ms. */
const measure = async (
  gateways: Gateways,
  dataDir: string,
  variants: ReadonlyArray<Pick<Variant, "everySecond" | "setting">>,
  { each, passes, senders: count, warmUp }: Turns,
  settle: number
): Promise<ReadonlyArray<ReadonlyArray<number>>> => {
  const metricsPort = await Effect.runPromise(freePort)
  const urls = await gateways.run({ dataDir, metricsPort, settings: variants.map(({ setting }) => setting) })
  const senders = await runLoad<SendersInput, Senders>("senders", { url: urls[0]!, senders: count })
  using sends = startLoad<CountedSendsInput, number>("countedSends")
  /** For how many ms each gateway was loaded since its work beside the load. */
  const loadedFor = variants.map(() => 1_000)
  const beside = (index: number) => {
    if (loadedFor[index]! < 1_000) return undefined
    loadedFor[index] = 0
    return variants[index]!.everySecond?.(`http://127.0.0.1:${metricsPort}/metrics`)
  }
  const take = async (index: number, run: string) => {
    await gateways.run({ collect: true })
    const before = exactProcessorTime(gateways.pid)
    const begun = performance.now()
    const [sent] = await Promise.all([sends.run({ each, ...senders, url: urls[index]!, run }), beside(index)])
    loadedFor[index]! += performance.now() - begun
    await sleep(settle)
    return (exactProcessorTime(gateways.pid) - before) / sent
  }
  const costs: Array<ReadonlyArray<number>> = []
  for (let pass = 0; pass < warmUp + passes; pass++) {
    const used = variants.map(() => 0)
    const order = variants.map((_, index) => (index + pass) % variants.length)
    for (const [position, index] of [...order, ...order.toReversed()].entries()) {
      used[index]! += (await take(index, `overhead${pass}.${position}`)) / 2
    }
    if (pass >= warmUp) costs.push(used)
  }
  return costs
}

const sum = (values: ReadonlyArray<number>): number => values.reduce((total, value) => total + value, 0)

interface Difference {
  /** As a part of the baseline. */
  readonly share: number
  readonly standardError: number
}

/** How the sums of two lists of costs differ, whose members at the same index were measured together. */
const difference = (costs: ReadonlyArray<number>, baselines: ReadonlyArray<number>): Difference => {
  const ratio = sum(costs) / sum(baselines)
  const residuals = costs.map((cost, index) => cost - ratio * baselines[index]!)
  const variance = sum(residuals.map((residual) => residual ** 2)) / Math.max(1, costs.length - 1)
  return { share: ratio - 1, standardError: Math.sqrt(variance * costs.length) / sum(baselines) }
}

const percent = (share: number): string => `${share >= 0 ? "+" : ""}${(share * 100).toFixed(1)} %`

const withError = ({ share, standardError }: Difference): string =>
  `${percent(share)} (± ${(standardError * 100).toFixed(1)})`

const time = (costs: ReadonlyArray<number>): string =>
  `${((sum(costs) / costs.length) * 1_000).toFixed(1)} us of the processor a send`

/**
 * Each variant against gateways without settings. `settle` is how long its work may follow the last send of a turn, in ms; `each` is how
 * many messages each sender sends in a turn.
 */
export const overhead = async (
  options: BenchmarkOptions,
  variants: ReadonlyArray<Variant>,
  { each = 75, passes, settle = 50 }: { readonly each?: number; readonly passes: number; readonly settle?: number }
): Promise<ReadonlyArray<Figure>> => {
  const turns: Turns = options.quick
    ? { senders: 8, each: 5, warmUp: 0, passes: 1 }
    : { senders: 24, each, warmUp: 5, passes }
  await using directory = new AsyncDisposableStack()
  const dataDir = directory.adopt(await temporaryDirectory(), removeDirectory)
  using gateways = startLoad<GatewaysInput, ReadonlyArray<string>>("gateways", [...v8Options, "--expose-gc"])
  const without = { setting: {} }
  const costs = await measure(gateways, dataDir, [without, without, ...variants], turns, settle).finally(() =>
    gateways.run({ end: true })
  )
  const costsOf = (index: number) => costs.map((pass) => pass[index]!)
  const baselines = costs.map(([one, other]) => (one! + other!) / 2)
  const equal = difference(costsOf(1), costsOf(0))
  return [
    { what: "two equal gateways", value: time(costsOf(1)), baseline: time(costsOf(0)), ratio: withError(equal) },
    ...variants.map(({ most, what }, index) => {
      const spent = costsOf(index + 2)
      const cost = difference(spent, baselines)
      // Where equal gateways differ by as much as the target, or the passes do, there is too much noise for a verdict.
      const isCertain =
        most !== undefined && !options.quick && Math.abs(equal.share) < most && 2 * cost.standardError < most
      return {
        what,
        value: time(spent),
        baseline: time(baselines),
        ratio: withError(cost),
        ...(isCertain ? { target: atMost(Math.round(cost.share * 1_000) / 10, most * 100, " %") } : {})
      }
    })
  ]
}
