/**
 * Keeps the heap of a program small: V8 collects garbage before it has more than doubled, and returns unused memory to the
 * system when the load falls. By default V8 lets the old generation grow to four times the live objects, and its memory
 * reducer does not run while anything is allocated. Once the program has been idle for a while after work, all garbage is collected, the
 * young generation shrinks, and the system gets the memory back at once.
 */
import { performance } from "node:perf_hooks"
import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { periodically } from "@greenroom/store/Supervision"
import { Effect, Layer } from "effect"

/**
 * By how much the old generation grows between two collections, in percent. A program that uses a processor for more than
 * `busyUtilization` of an interval collects less often.
 */
const growth = { busy: 50, moderate: 30 }
const busyUtilization = 0.6

/** How often to look at the use of the processor, in ms, and the part of that time for which a resting program may be busy. */
const interval = 2_000
const restingUtilization = 0.1
/**
 * For how many intervals a program rests or is idle before anything changes. A full collection also takes the optimized code of functions
 * that no object holds at that moment, so a program with short pauses would compile it again after each of them.
 */
const pause = 5
/**
 * An idle program uses at most `idleTime` of processor time in an interval, in ms. It collects all garbage if it has used
 * `worthCollecting` since the last such collection, in ms, or `worthShrinking` where the young generation is not small, in bytes.
 */
const idleTime = 40
const worthCollecting = 2_000
const worthShrinking = 500
const smallYoungGeneration = 8 * 1024 * 1024

/** In ms, since the process began. */
const processorTime = (): number => {
  const { system, user } = process.cpuUsage()
  return (system + user) / 1_000
}

/**
 * Collects all garbage, which takes about 1 ms for each MB of live objects. Only the last resort of V8 frees the pages that it keeps for
 * the young generation, up to 40 MB: after any other collection they are part of the process until the memory reducer runs. Compiled
 * code stays.
 */
const collectGarbage = () => {
  setFlagsFromString("--expose-gc")
  const collect = runInNewContext("gc") as (options: { readonly type: "major"; readonly flavor: "last-resort" }) => void
  setFlagsFromString("--no-expose-gc")
  setFlagsFromString("--no-flush-bytecode")
  collect({ type: "major", flavor: "last-resort" })
  setFlagsFromString("--flush-bytecode")
}

/** In bytes, used or not. */
const youngGeneration = (): number =>
  getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space")?.space_size ?? 0

/** V8 reads the flags at each decision. While the program rests, V8 optimizes for size instead of speed. */
export const layer: Layer.Layer<never> = Layer.effectDiscard(
  Effect.suspend(() => {
    let percent = growth.busy
    setFlagsFromString(`--heap-growing-percent=${percent}`)
    let last = performance.eventLoopUtilization()
    let used = processorTime()
    let usedAtCollection = 0
    let isResting = false
    /** For how many intervals the program has been resting, and idle. */
    let resting = 0
    let idle = 0
    const look = Effect.sync(() => {
      const [now, before] = [performance.eventLoopUtilization(), used]
      used = processorTime()
      resting = performance.eventLoopUtilization(now, last).utilization < restingUtilization ? resting + 1 : 0
      idle = used - before <= idleTime ? idle + 1 : 0
      last = now
      const rests = resting >= pause
      if (rests !== isResting) setFlagsFromString(rests ? "--optimize-for-size" : "--no-optimize-for-size")
      isResting = rests
      const wanted = used - before > interval * busyUtilization ? growth.busy : growth.moderate
      if (wanted !== percent) setFlagsFromString(`--heap-growing-percent=${wanted}`)
      percent = wanted
      if (idle < pause) return
      const worth = youngGeneration() > smallYoungGeneration ? worthShrinking : worthCollecting
      if (used - usedAtCollection < worth) return
      collectGarbage()
      used = processorTime()
      usedAtCollection = used
    })
    return periodically("Adjusting the heap", interval, look)
  })
)
