/** The resources of a process of another program: memory at its peak and processor time, from /proc. Linux only. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs"

/** Clock ticks a second in /proc: the same on all machines that Linux runs on now. */
const ticksPerSecond = 100

const status = (pid: number, key: string): number => {
  const line = readFileSync(`/proc/${pid}/status`, "utf8").match(new RegExp(`^${key}:\\s*([0-9]+) kB`, "m"))
  return Number(line?.[1] ?? 0) / 1024
}

/** Resident memory in MiB, now and at its peak since `resetPeak`. */
export const residentMiB = (pid: number): number => status(pid, "VmRSS")
export const peakMiB = (pid: number): number => status(pid, "VmHWM")

export const resetPeak = (pid: number): void => writeFileSync(`/proc/${pid}/clear_refs`, "5")

/** Processor time of the process, in ms. */
export const processorTime = (pid: number): number => {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /, "")
    .split(" ")
  const [user = 0, system = 0] = fields.slice(11, 13).map(Number)
  return ((user + system) * 1_000) / ticksPerSecond
}

/**
 * Processor time of the threads of the process, in ms, as the scheduler counts it: without the ticks of `processorTime`, which round a short
 * measurement. It is exact where the threads wait; the present turn of a running one is left out.
 */
export const exactProcessorTime = (pid: number): number => {
  const threads = readdirSync(`/proc/${pid}/task`)
  const times = threads.map((thread) =>
    Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0])
  )
  return times.reduce((sum, nanoseconds) => sum + nanoseconds, 0) / 1e6
}

/** Processor time of the running children of the process, in ms: of a server of PostgreSQL those that work for clients. */
export const childrenProcessorTime = (pid: number): number =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8")
    .split(" ")
    .filter((child) => child !== "")
    .reduce((sum, child) => sum + processorTime(Number(child)), 0)

/** The resources that a process used during a measurement. */
export interface Used {
  /** The duration, in ms. */
  readonly time: number
  /** Processor time, in ms. */
  readonly processor: number
  /** Resident memory at its peak above that at the beginning, in MiB. */
  readonly memory: number
}

export const used = async (pid: number, task: () => Promise<unknown>): Promise<Used> => {
  resetPeak(pid)
  const [begin, idle, before] = [performance.now(), residentMiB(pid), processorTime(pid)]
  await task()
  return {
    time: performance.now() - begin,
    processor: processorTime(pid) - before,
    memory: peakMiB(pid) - idle
  }
}
