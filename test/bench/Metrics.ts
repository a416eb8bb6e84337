/** The cost of metrics, with a Prometheus that scrapes more often than usual. */
import type { Benchmark } from "./Benchmark.ts"
import { overhead } from "./Overhead.ts"

/** Reads the metrics once. */
const scrape = async (metrics: string): Promise<void> => {
  const answer = await fetch(metrics)
  const text = await answer.text()
  if (!text.includes("greenroom_http_requests_in_flight")) throw new Error(`No metrics: ${answer.status} ${text}`)
}

export const metrics: Benchmark = {
  name: "metrics",
  measures: "sends by today's API with metrics; baseline: without",
  run: (options) =>
    overhead(
      options,
      [{ what: "metrics, read every second", setting: { metrics: true }, most: 0.03, everySecond: scrape }],
      { passes: 45 }
    )
}
