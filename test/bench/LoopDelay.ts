/**
 * Loaded into a gateway before its program: says, whenever SIGUSR2 comes, for how long its event loop was held up at most
 * since the last time, and for how long by one slice of signing, verifying or resolving. What counts is the processor
 * time of the thread: what the program itself takes, the collection of garbage included, and not that other programs have
 * the processor.
 */
import { subscribe } from "node:diagnostics_channel"

/** From one look to the next, in ms. */
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
