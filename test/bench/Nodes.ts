/**
 * One to three nodes of a cluster against one process without `--cluster`, by the processor time of all nodes together for each event,
 * as they share the machine. All senders are at the first node. Of two or three nodes, events in rooms that the first node holds are
 * measured apart from those in rooms of other nodes. All take turns, always in the same order, each after sends that do not count.
 *
 * A message's way to a client at another node is measured beside that to a client at the node of the sender.
 */
import {
  atMost,
  type Benchmark,
  type BenchmarkOptions,
  type Figure,
  milliseconds,
  ofBaseline,
  perSecond
} from "./Benchmark.ts"
import { type Cluster, startCluster } from "./Cluster.ts"
import { rounds, senderCount } from "./DurableSends.ts"
import { runLoad } from "./LoadProcess.ts"
import type { Throughput } from "./load/ClosedLoop.ts"
import type { Crossing, CrossingInput } from "./load/crossing.ts"
import type { Senders, SendersInput } from "./load/senders.ts"
import type { SendsInput } from "./load/sends.ts"
import { waitingClients } from "./NodesClients.ts"
import { median } from "./Percentiles.ts"
import { startPostgres } from "./Postgres.ts"
import { childrenProcessorTime, processorTime } from "./Processes.ts"
import type { Server } from "./Server.ts"

/** A cluster whose rooms are measured. */
interface MeasuredCluster extends Cluster {
  /** Senders whose rooms are held by the first node, and by others. */
  readonly here: Senders
  readonly elsewhere: Senders
}

const startNodes = async (
  nodes: number,
  senders: number,
  resources: AsyncDisposableStack
): Promise<MeasuredCluster> => {
  const postgres = resources.use(await startPostgres(100))
  const cluster = await startCluster(nodes, resources, postgres)
  // Each of n nodes has about one of n rooms.
  const total = nodes < 2 ? senders : senders * (nodes + 2)
  const all = await runLoad<SendersInput, Senders>("senders", { url: cluster.servers[0]!.url, senders: total })
  const chosen = (here: boolean): Senders => {
    const places = all.rooms.flatMap((room, index) => (cluster.isHere(room) === here ? [index] : [])).slice(0, senders)
    return { rooms: places.map((index) => all.rooms[index]!), tokens: places.map((index) => all.tokens[index]!) }
  }
  return { ...cluster, here: chosen(true), elsewhere: chosen(false) }
}

/** One round: processor time for an event, in ms. */
interface Round {
  readonly throughput: Throughput
  readonly nodes: number
  readonly postgres: number
}

/** Rooms whose events are measured. */
interface Measured {
  readonly what: string
  readonly cluster: MeasuredCluster
  readonly senders: Senders
  readonly rounds: Array<Round>
}

const measureRound = async (
  { cluster, senders }: Measured,
  run: string,
  { seconds, warmUp }: { readonly seconds: number; readonly warmUp: number }
): Promise<Round> => {
  const { postgres, servers } = cluster
  const send = (run: string, seconds: number) =>
    runLoad<SendsInput, Throughput>("sends", { ...senders, url: servers[0]!.url, run, seconds, warmUp: 0 })
  const spent = () => ({
    nodes: servers.reduce((sum, { pid }) => sum + processorTime(pid), 0),
    postgres: childrenProcessorTime(postgres.pid)
  })
  await send(`${run}-warm-up`, warmUp)
  const before = spent()
  const throughput = await send(run, seconds)
  const after = spent()
  const events = throughput.perSecond * seconds
  return {
    throughput,
    nodes: (after.nodes - before.nodes) / events,
    postgres: (after.postgres - before.postgres) / events
  }
}

/** The ratio of each round to that of the baseline beside it, in the middle of all rounds. */
const ratioTo = (measured: Measured, baseline: Measured): number =>
  median(measured.rounds.map(({ nodes }, round) => nodes / baseline.rounds[round]!.nodes))

const typical = ({ rounds }: Measured, of: (round: Round) => number): number => median(rounds.map(of))
const processorMs = (value: number): string => `${value.toFixed(3)} ms`

const figuresOf = (measured: Measured, baseline: Measured, most?: number): ReadonlyArray<Figure> => {
  const ratio = ratioTo(measured, baseline)
  const line = (what: string, of: (round: Round) => number, show: (value: number) => string): Figure => ({
    what,
    value: show(typical(measured, of)),
    baseline: `${show(typical(baseline, of))} ${baseline.what}`
  })
  return [
    {
      ...line(measured.what, ({ nodes }) => nodes, processorMs),
      ratio: ofBaseline(ratio),
      ...(most === undefined ? {} : { target: atMost(ratio, most) })
    },
    line("  PostgreSQL", ({ postgres }) => postgres, processorMs),
    line(
      "  events",
      ({ throughput }) => throughput.perSecond,
      (value) => perSecond(value, "events")
    )
  ]
}

/** How much longer a message takes to a client at another node, in ms. */
const mostLater = 20

/** From the sender's request to a client at the sender's node, and to one at another node. */
const wakeUps = async ({ servers }: Cluster, { quick }: BenchmarkOptions): Promise<Figure> => {
  const [here, there] = servers as [Server, Server]
  const input = { here: here.url, there: there.url, senders: 2, flood: 0, single: quick ? 5 : 300 }
  const crossed = await runLoad<CrossingInput, Crossing>("crossing", input)
  const [own, other] = [crossed.here.latency.p50, crossed.there.latency.p50]
  return {
    what: "a message to a client at another node, p50",
    value: milliseconds(other),
    baseline: `${milliseconds(own)} at the node of the sender`,
    ratio: `${(other - own).toFixed(1)} ms more`,
    target: atMost(other - own, mostLater, " ms more")
  }
}

export const nodes: Benchmark = {
  name: "nodes",
  measures:
    "processor time of an event in one to three nodes of a cluster, and of clients that wait; a message's way to another node",
  run: async (options) => {
    const clients = await waitingClients(options)
    const { rounds: total, ...load } = options.quick ? rounds(options) : { rounds: 5, seconds: 3, warmUp: 1 }
    const senders = senderCount(options)
    await using resources = new AsyncDisposableStack()
    const [none, one, two, three] = [
      await startNodes(0, senders, resources),
      await startNodes(1, senders, resources),
      await startNodes(2, senders, resources),
      await startNodes(3, senders, resources)
    ]
    const measure = (what: string, cluster: MeasuredCluster, from: "here" | "elsewhere" = "here"): Measured => ({
      what,
      cluster,
      senders: cluster[from],
      rounds: []
    })
    const all = [
      measure("without --cluster", none),
      measure("1 node", one),
      measure("2 nodes, rooms of the asked node", two),
      measure("2 nodes, rooms of the other node", two, "elsewhere"),
      measure("3 nodes, rooms of the asked node", three),
      measure("3 nodes, rooms of other nodes", three, "elsewhere")
    ] as const
    // The first round compiles the programs and does not count.
    for (let round = -1; round < total; round++) {
      for (const measured of all) {
        const found = await measureRound(measured, `${measured.what.replaceAll(/\W+/g, "-")}.${round}`, load)
        if (round >= 0) measured.rounds.push(found)
      }
    }
    const [alone, single, own, other, ...ofThree] = all
    return [
      ...figuresOf(single, alone, 1.15),
      ...figuresOf(own, alone),
      ...figuresOf(other, alone, 1.6),
      ...figuresOf(other, own).slice(0, 1),
      ...ofThree.flatMap((measured) => figuresOf(measured, alone)),
      await wakeUps(two, options),
      ...clients
    ]
  }
}
