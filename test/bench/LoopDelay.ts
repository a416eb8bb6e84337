/**
 * Loaded into a gateway before its program: says, whenever SIGUSR2 comes, for how long its event loop was held up at most
 * since the last time. What counts is the processor time of the thread between two ticks of a timer: what the program
 * itself takes at once, its collection of garbage included, and not that other programs have the processor.
 */
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

process.on("SIGUSR2", () => {
  process.stderr.write(`event loop held up ${longest.toFixed(1)} ms\n`)
  longest = 0
})
