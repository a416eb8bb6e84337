/**
 * Keeps the heap of a program small: V8 collects garbage before it has more than doubled, and returns unused memory to the
 * system when the load falls. By default V8 lets the old generation grow to four times the live objects, and its memory
 * reducer does not run while anything is allocated. Once the program is idle after work, all garbage is collected once, then the
 * young generation until V8 has shrunk it. The system gets the memory back some ten seconds later.
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
const growth = { busy: 80, moderate: 40 }
const busyUtilization = 0.6

/** How often to look at the use of the processor, in ms, and the part of that time for which a resting program may be busy. */
const interval = 2_000
const restingUtilization = 0.1
/**
 * An idle program uses at most `idleTime` of processor time in an interval, in ms. It collects all garbage if it has used
 * `worthCollecting` since the last such collection, in ms.
 */
const idleTime = 40
const worthCollecting = 2_000

/** In ms, since the process began. */
const processorTime = (): number => {
  const { system, user } = process.cpuUsage()
  return (system + user) / 1_000
}

/** V8 makes the young generation small if little was allocated between some collections: this many at most. */
const smallYoungGeneration = 8 * 1024 * 1024
const maxYoungCollections = 5

/**
 * Collects garbage: all of it, which takes about 1 ms for each MB of live objects, or that of the young generation. Compiled code
 * stays.
 */
const collectGarbage = (type: "major" | "minor") => {
  setFlagsFromString("--expose-gc")
  const collect = runInNewContext("gc") as (options: { readonly type: "major" | "minor" }) => void
  setFlagsFromString("--no-expose-gc")
  collect({ type })
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
    let youngCollections = maxYoungCollections
    let isResting = false
    const look = Effect.sync(() => {
      const [now, before] = [performance.eventLoopUtilization(), used]
      used = processorTime()
      const rests = performance.eventLoopUtilization(now, last).utilization < restingUtilization
      last = now
      if (rests !== isResting) setFlagsFromString(rests ? "--optimize-for-size" : "--no-optimize-for-size")
      isResting = rests
      const wanted = used - before > interval * busyUtilization ? growth.busy : growth.moderate
      if (wanted !== percent) setFlagsFromString(`--heap-growing-percent=${wanted}`)
      percent = wanted
      if (used - before > idleTime) return
      if (used - usedAtCollection >= worthCollecting) {
        collectGarbage("major")
        used = processorTime()
        usedAtCollection = used
        youngCollections = 0
      } else if (youngCollections < maxYoungCollections && youngGeneration() > smallYoungGeneration) {
        collectGarbage("minor")
        youngCollections++
      }
    })
    return periodically("Adjusting the heap", interval, look)
  })
)
