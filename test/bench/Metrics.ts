/** The cost of metrics, with a Prometheus that scrapes more often than usual. */
import type { Benchmark } from "./Benchmark.ts"
import { overhead } from "./Overhead.ts"
import type { Server } from "./Server.ts"

/** Reads the metrics once. */
const scrape = async (server: Server): Promise<void> => {
  const [, url] = /The metrics are at (http:[^ "]+)/.exec(server.output()) ?? []
  if (url === undefined) throw new Error(`The gateway has no metrics: ${server.output()}`)
  await (await fetch(url)).text()
}

export const metrics: Benchmark = {
  name: "metrics",
  measures: "sends by today's API with metrics; baseline: without",
  run: (options) =>
    overhead(options, [
      {
        what: "metrics, read every second",
        environment: { GREENROOM_METRICS_PORT: "0" },
        most: 0.03,
        meanwhile: scrape
      }
    ])
}
