/** The latency of sends during logins. To check a password takes tens of milliseconds of processor time. */
import { atMost, type Benchmark, milliseconds, times } from "./Benchmark.ts"
import { runLoad } from "./LoadProcess.ts"
import type { LoginsInput } from "./load/logins.ts"
import type { PacedSendsInput } from "./load/pacedSends.ts"
import type { Senders, SendersInput } from "./load/senders.ts"
import { median, type Percentiles } from "./Percentiles.ts"
import { startServer } from "./Server.ts"

const perSecond = 20

export const logins: Benchmark = {
  name: "logins",
  measures: "sends while 20 logins a second are answered; baseline: the same sends without",
  run: async ({ quick }) => {
    const rounds = quick ? 1 : 3
    const seconds = quick ? 1 : 8
    await using server = await startServer()
    const { url } = server
    const prepared = await runLoad<SendersInput, Senders>("senders", { url, senders: quick ? 4 : 16 })
    const send = (run: string) =>
      runLoad<PacedSendsInput, Percentiles>("pacedSends", { url, ...prepared, seconds, interval: 100, run })
    const without: Array<Percentiles> = []
    const during: Array<Percentiles> = []
    for (let round = 0; round < rounds; round++) {
      without.push(await send(`without${round}`))
      const login = runLoad<LoginsInput, number>("logins", { url, perSecond, seconds: seconds + 1, run: round })
      during.push(await send(`with${round}`))
      await login
    }
    const of = (runs: ReadonlyArray<Percentiles>, percentile: "p50" | "p99") =>
      median(runs.map((run) => run[percentile]))
    const factor = of(during, "p99") / of(without, "p99")
    return [
      {
        what: `a send during ${perSecond} logins/s, p99`,
        value: milliseconds(of(during, "p99")),
        baseline: milliseconds(of(without, "p99")),
        ratio: times(factor),
        target: atMost(factor, 2, " times")
      },
      { what: "  p50", value: milliseconds(of(during, "p50")), baseline: milliseconds(of(without, "p50")) }
    ]
  }
}
