/**
 * Loaded into a gateway before its program. On SIGUSR2 it writes the longest stretch of the event loop since the last signal, and the
 * longest slice of signing, verifying or resolving. Both are processor time of the thread: garbage collections count, waiting for
 * a processor does not.
 */
import { subscribe } from "node:diagnostics_channel"

/** The interval between two samples, in ms. */
const tick = 1

const usedSince = (before: NodeJS.CpuUsage): number => {
  const { system, user } = process.threadCpuUsage(before)
  return (user + system) / 1_000
}

let longest = 0
let before = process.threadCpuUsage()
setInterval(() => {
  longest = Math.max(longest, usedSince(before))
  before = process.threadCpuUsage()
}, tick).unref()

let longestSlice = 0
let sliceBegan = before
subscribe("greenroom.slices", (begins) => {
  if (begins === true) sliceBegan = process.threadCpuUsage()
  else longestSlice = Math.max(longestSlice, usedSince(sliceBegan))
})

process.on("SIGUSR2", () => {
  process.stderr.write(`event loop held up ${longest.toFixed(1)} ms, by a slice ${longestSlice.toFixed(1)} ms\n`)
  longest = 0
  longestSlice = 0
})
