/**
 * Loaded into a gateway before its program: says, whenever SIGUSR2 comes, for how long its event loop was held up at most
 * since the last time.
 */
import { monitorEventLoopDelay } from "node:perf_hooks"

const delay = monitorEventLoopDelay({ resolution: 1 })
delay.enable()
process.on("SIGUSR2", () => {
  process.stderr.write(`event loop held up ${(delay.max / 1e6).toFixed(1)} ms\n`)
  delay.reset()
})
