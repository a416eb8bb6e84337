/**
 * One to three nodes of a cluster against one process without `--cluster`, each on a PostgreSQL of its own: processor time of
 * all nodes together for each event, as they share the machine. All senders are at the first node; of the rooms it has a part.
 */
import * as fs from "node:fs/promises"
import * as net from "node:net"
import { atMost, type Benchmark, type BenchmarkOptions, milliseconds, ofBaseline, perSecond } from "./Benchmark.ts"
import { rounds, senderCount } from "./DurableSends.ts"
import { runLoad } from "./LoadProcess.ts"
import type { Throughput } from "./load/Closed.ts"
import type { Senders, SendersInput } from "./load/senders.ts"
import type { SendsInput } from "./load/sends.ts"
import { median } from "./Percentiles.ts"
import { startPostgres } from "./Postgres.ts"
import { type Server, startServer } from "./Server.ts"

const ticksPerSecond = 100

/** Processor time of a process so far, in ms. */
const processorTime = async (pid: number): Promise<number> => {
  const fields = (await fs.readFile(`/proc/${pid}/stat`, "utf8")).split(") ")[1]!.split(" ")
  return ((Number(fields[11]) + Number(fields[12])) * 1_000) / ticksPerSecond
}

const freePort = () =>
  new Promise<number>((resolve) => {
    const server = net.createServer()
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as net.AddressInfo
      server.close(() => resolve(port))
    })
  })

interface Measured {
  readonly throughput: Throughput
  /** Processor time of all nodes for an event, in ms. */
  readonly perEvent: number
}

/** `nodes`: 0 for one process without `--cluster`. */
const measure = async (nodes: number, options: BenchmarkOptions): Promise<Measured> => {
  const { rounds: total, seconds, warmUp } = rounds(options)
  await using postgres = await startPostgres(100)
  const environment = { GREENROOM_DATABASE_URL: postgres.url }
  const servers: Array<Server> = []
  await using _ = {
    [Symbol.asyncDispose]: async () => {
      for (const server of servers) await server[Symbol.asyncDispose]()
    }
  }
  if (nodes === 0) servers.push(await startServer({ environment }))
  for (let node = 0; node < nodes; node++) {
    const port = String(await freePort())
    servers.push(
      await startServer({ environment: { ...environment, GREENROOM_CLUSTER: "true", GREENROOM_CLUSTER_PORT: port } })
    )
  }
  const { url } = servers[0]!
  const prepared = await runLoad<SendersInput, Senders>("senders", { url, senders: senderCount(options) })
  const send = (run: string, seconds: number) =>
    runLoad<SendsInput, Throughput>("sends", { ...prepared, url, run, seconds, warmUp: 0 })
  await send("warm-up", warmUp)
  const spent = async () => {
    const times = await Promise.all(servers.map(({ pid }) => processorTime(pid)))
    return times.reduce((sum, time) => sum + time, 0)
  }
  const found: Array<Measured> = []
  for (let round = 0; round < total; round++) {
    const before = await spent()
    const throughput = await send(`round${round}`, seconds)
    found.push({ throughput, perEvent: ((await spent()) - before) / (throughput.perSecond * seconds) })
  }
  const middle = median(found.map(({ perEvent }) => perEvent))
  return found.find(({ perEvent }) => perEvent === middle)!
}

export const nodes: Benchmark = {
  name: "nodes",
  measures: "sends to one to three nodes of a cluster, and what an event costs in a room of another node",
  run: async (options) => {
    const alone = await measure(0, options)
    const measured: Array<Measured> = []
    for (const count of [1, 2, 3]) measured.push(await measure(count, options))
    const baseline = `${milliseconds(alone.perEvent)} without --cluster`
    const figures = measured.map(({ perEvent, throughput }, index) => ({
      what: `${index + 1} ${index === 0 ? "node" : "nodes"}: processor time of an event`,
      value: `${perEvent.toFixed(2)} ms, ${perSecond(throughput.perSecond, "events")}`,
      baseline: `${baseline}, ${perSecond(alone.throughput.perSecond, "events")}`,
      ratio: ofBaseline(perEvent / alone.perEvent),
      ...(index === 0 ? { target: atMost(perEvent / alone.perEvent, 1.15) } : {})
    }))
    // Of two nodes each has half of the rooms.
    const [one, two] = measured as [Measured, Measured]
    const elsewhere = 2 * two.perEvent - one.perEvent
    return [
      ...figures,
      {
        what: "in a room of another node",
        value: milliseconds(elsewhere),
        baseline: `${milliseconds(one.perEvent)} in a room of the same node`,
        ratio: ofBaseline(elsewhere / one.perEvent),
        target: atMost(elsewhere / one.perEvent, 1.6)
      }
    ]
  }
}
