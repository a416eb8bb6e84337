/**
 * Sends that are durable when they are answered: 64 senders in as many rooms, against 64 connections that commit one
 * INSERT of the same size each.
 */
import { atLeast, type Benchmark, type BenchmarkOptions, milliseconds, ofBaseline, perSecond } from "./Benchmark.ts"
import { runLoad } from "./LoadProcess.ts"
import type { Throughput } from "./load/ClosedLoop.ts"
import type { InsertsInput } from "./load/inserts.ts"
import type { Senders, SendersInput } from "./load/senders.ts"
import type { SendsInput } from "./load/sends.ts"
import { median } from "./Percentiles.ts"
import { startPostgres } from "./Postgres.ts"
import { startServer } from "./Server.ts"

/** How many bytes of text the event log stores of a message as the senders send it. */
const rowBytes = 500

/** Rounds are short and alternate, so that other load on the machine affects both measurements. */
export const rounds = ({ quick }: BenchmarkOptions) =>
  quick ? { rounds: 1, seconds: 0.5, warmUp: 0.2 } : { rounds: 5, seconds: 4, warmUp: 1.5 }

export const senderCount = ({ quick }: BenchmarkOptions): number => (quick ? 8 : 64)

/** The median of the ratios of rounds that were measured one after the other. */
export const pairedRatio = (runs: ReadonlyArray<Throughput>, baselines: ReadonlyArray<Throughput>): number =>
  median(runs.map((run, round) => run.perSecond / baselines[round]!.perSecond))

/** The round with the median rate. */
export const typical = (runs: ReadonlyArray<Throughput>): Throughput => {
  const middle = median(runs.map((run) => run.perSecond))
  return runs.find((run) => run.perSecond === middle)!
}

export const durableSends: Benchmark = {
  name: "sends",
  measures: "durable sends by HTTP, each sender in a room of their own",
  run: async (options) => {
    const { rounds: total, ...loop } = rounds(options)
    const senders = senderCount(options)
    await using postgres = await startPostgres(senders + 20)
    await using server = await startServer()
    const prepared = await runLoad<SendersInput, Senders>("senders", { url: server.url, senders })
    const inserts: Array<Throughput> = []
    const sends: Array<Throughput> = []
    for (let round = 0; round < total; round++) {
      const { socketPath } = postgres
      inserts.push(
        await runLoad<InsertsInput, Throughput>("inserts", { ...loop, socketPath, connections: senders, rowBytes })
      )
      sends.push(
        await runLoad<SendsInput, Throughput>("sends", { ...loop, ...prepared, url: server.url, run: `many${round}` })
      )
    }
    const insert = typical(inserts)
    const send = typical(sends)
    const ratio = pairedRatio(sends, inserts)
    return [
      {
        what: `${senders} senders in ${senders} rooms`,
        value: perSecond(send.perSecond, "events"),
        baseline: `${perSecond(insert.perSecond, "INSERTs")}, ${senders} connections`,
        ratio: ofBaseline(ratio),
        target: atLeast(ratio, 0.3)
      },
      { what: "  until the answer, p50", value: milliseconds(send.p50), baseline: milliseconds(insert.p50) },
      { what: "  until the answer, p99", value: milliseconds(send.p99), baseline: milliseconds(insert.p99) }
    ]
  }
}
