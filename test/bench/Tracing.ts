/** The cost of traces, sent to a collector that accepts and drops them. */
import * as http from "node:http"
import type { AddressInfo } from "node:net"
import type { Benchmark } from "./Benchmark.ts"
import { overhead, type Variant } from "./Overhead.ts"

/** A collector of OpenTelemetry that forgets what it gets. */
const startCollector = async () => {
  const server = http.createServer((request, response) => {
    request.resume().on("end", () => response.writeHead(200, { "content-type": "application/json" }).end("{}"))
  })
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.dispose]: () => {
      server.close()
      server.closeAllConnections()
    }
  }
}

export const tracing: Benchmark = {
  name: "tracing",
  measures: "sends by today's API with traces of some requests, and of all; baseline: without",
  run: async (options) => {
    using collector = await startCollector()
    const variant = (what: string, ratio: number): Variant => ({
      what,
      setting: { tracing: { endpoint: collector.url, ratio } }
    })
    return await overhead(
      options,
      [{ ...variant("1 % of the requests traced", 0.01), most: 0.05 }, variant("all requests traced", 1)],
      // Spans are exported every second: a turn is loaded for about as long, so that it pays for one export, as a loaded gateway does.
      { each: 290, passes: 16, settle: 1_100 }
    )
  }
}
