/**
 * Metrics of the process: memory, processor, and how late the event loop is. The names are those of Prometheus' client
 * libraries, so that dashboards for Node programs find them.
 */
import { readdir } from "node:fs/promises"
import { monitorEventLoopDelay, performance } from "node:perf_hooks"
import { counter, gauge } from "@greenroom/store/Measures"
import { Effect, type Scope } from "effect"
import { GatewayVersion } from "./GatewayVersion.ts"

/** How often the delay of the event loop is taken, in ms. */
const resolution = 20

const seconds = (nanoseconds: number): number => nanoseconds / 1e9

/** Lag of the event loop. Each value is about the time since the metrics were last read. */
const measureEventLoop = Effect.gen(function* () {
  const delays = yield* Effect.acquireRelease(
    Effect.sync(() => {
      const histogram = monitorEventLoopDelay({ resolution })
      histogram.enable()
      return histogram
    }),
    (histogram) => Effect.sync(() => histogram.disable())
  )
  const values = { p50: 0, p99: 0, max: 0, utilization: 0 }
  let last = performance.eventLoopUtilization()
  yield* gauge(
    "nodejs_eventloop_lag_p50_seconds",
    "Median delay of the event loop's timers since the last scrape",
    () => values.p50
  )
  yield* gauge(
    "nodejs_eventloop_lag_p99_seconds",
    "99th percentile of the delay of timers since the last scrape",
    () => values.p99
  )
  yield* gauge("nodejs_eventloop_lag_max_seconds", "Longest delay of a timer since the last scrape", () => values.max)
  yield* gauge(
    "nodejs_eventloop_utilization",
    "Part of the time since the last scrape in which the event loop was busy",
    () => values.utilization
  )
  return Effect.sync(() => {
    const now = performance.eventLoopUtilization()
    values.utilization = performance.eventLoopUtilization(now, last).utilization
    last = now
    const late = (nanoseconds: number) => Math.max(0, seconds(nanoseconds) - resolution / 1_000)
    values.p50 = late(delays.percentile(50))
    values.p99 = late(delays.percentile(99))
    values.max = late(delays.max)
    delays.reset()
  })
})

const measureMemory = Effect.gen(function* () {
  let memory = process.memoryUsage()
  const bytes = (name: string, description: string, key: keyof NodeJS.MemoryUsage) =>
    gauge(name, description, () => memory[key])
  yield* bytes("process_resident_memory_bytes", "Memory of the process", "rss")
  yield* bytes("nodejs_heap_size_total_bytes", "The heap of JavaScript", "heapTotal")
  yield* bytes("nodejs_heap_size_used_bytes", "The part of the JavaScript heap that is in use", "heapUsed")
  yield* bytes("nodejs_external_memory_bytes", "Buffers and other memory outside of the heap", "external")
  return Effect.sync(() => {
    memory = process.memoryUsage()
  })
})

const measureFiles = Effect.gen(function* () {
  let open = Number.NaN
  yield* gauge("process_open_fds", "Open files and connections", () => open)
  return Effect.promise(async () => {
    open = await readdir("/proc/self/fd").then(
      (files) => files.length,
      () => Number.NaN
    )
  })
})

/** Registers these metrics until the scope closes. The result brings them up to date. */
export const make: Effect.Effect<Effect.Effect<void>, never, Scope.Scope> = Effect.gen(function* () {
  const startedAt = Date.now() / 1_000 - process.uptime()
  const version = yield* GatewayVersion
  yield* gauge("greenroom_build_info", "The version that runs", () => 1, { version, node: process.version })
  yield* gauge("process_start_time_seconds", "When the process started, since 1970", () => startedAt)
  yield* counter("process_cpu_seconds_total", "Processor time", () => {
    const { system, user } = process.cpuUsage()
    return (system + user) / 1e6
  })
  return Effect.all([yield* measureEventLoop, yield* measureMemory, yield* measureFiles], { discard: true })
})
