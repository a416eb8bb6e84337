/**
 * `npm run bench`: measures the gateway, as it runs for an operator, from another process. `docs/benchmarks.md` says how
 * to read it.
 *
 *     npm run bench                      everything
 *     npm run bench -- sends hot-room    some of it
 *     npm run bench -- --quick           small numbers, to see that it works
 */
import * as os from "node:os"
import { parseArgs } from "node:util"
import { backup } from "./Backup.ts"
import type { Benchmark, Figure } from "./Benchmark.ts"
import { contacts } from "./Contacts.ts"
import { delivery } from "./Delivery.ts"
import { durableSends } from "./DurableSends.ts"
import { encryption } from "./Encryption.ts"
import { federation } from "./Federation.ts"
import { files } from "./Files.ts"
import { help } from "./Help.ts"
import { hotRoom } from "./HotRoom.ts"
import { idlePolls } from "./IdlePolls.ts"
import { initialSync } from "./InitialSync.ts"
import { join } from "./Join.ts"
import { localActors } from "./LocalActors.ts"
import { logins } from "./Logins.ts"
import { memory } from "./Memory.ts"
import { metrics } from "./Metrics.ts"
import { nodes } from "./Nodes.ts"
import { resolution } from "./Resolution.ts"
import { slidingSync } from "./SlidingSync.ts"
import { syncDelivery } from "./SyncDelivery.ts"
import { table } from "./Table.ts"
import { todayFederation } from "./TodayFederation.ts"
import { todaySends } from "./TodaySends.ts"
import { tracing } from "./Tracing.ts"
import { unreachable } from "./Unreachable.ts"

const benchmarks: ReadonlyArray<Benchmark> = [
  durableSends,
  hotRoom,
  todaySends,
  delivery,
  syncDelivery,
  idlePolls,
  memory,
  initialSync,
  slidingSync,
  localActors,
  nodes,
  logins,
  federation,
  todayFederation,
  join,
  resolution,
  unreachable,
  encryption,
  files,
  contacts,
  backup,
  metrics,
  tracing,
  help
]

const say = (text: string) => process.stdout.write(`${text}\n`)

/** Other load on the machine falsifies every figure: it is printed beside them. */
const machine = () => {
  const [load = 0] = os.loadavg()
  return `${os.availableParallelism()} processors, Node ${process.version}, load ${load.toFixed(2)}`
}

const run = async (chosen: ReadonlyArray<Benchmark>, quick: boolean): Promise<ReadonlyArray<Figure>> => {
  const figures: Array<Figure> = []
  for (const benchmark of chosen) {
    say(`${benchmark.name}: ${benchmark.measures} (${machine()})`)
    const found = await benchmark.run({ quick })
    say(`${table(found)}\n`)
    figures.push(...found)
  }
  return figures
}

const usage = () =>
  [
    "npm run bench -- [--quick] [name ...]",
    "",
    ...benchmarks.map(({ measures, name }) => `  ${name.padEnd(14)} ${measures}`)
  ].join("\n")

const main = async () => {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: { quick: { type: "boolean", default: false }, help: { type: "boolean", short: "h", default: false } }
  })
  if (values.help) {
    say(usage())
    return
  }
  const unknown = positionals.filter((name) => !benchmarks.some((benchmark) => benchmark.name === name))
  if (unknown.length > 0) {
    say(`There is no benchmark ${unknown.join(", ")}\n\n${usage()}`)
    process.exitCode = 1
    return
  }
  const chosen = positionals.length === 0 ? benchmarks : benchmarks.filter(({ name }) => positionals.includes(name))
  const figures = await run(chosen, values.quick)
  if (chosen.length > 1) say(table(figures))
}

await main()
