/**
 * Keeps the heap of a program small: V8 collects garbage before it has more than doubled, and returns unused memory to the
 * system when the load falls. By default V8 lets the old generation grow to four times the live objects, and its memory
 * reducer does not run while anything is allocated. When nothing happens after work, all garbage is collected once.
 */
import { performance } from "node:perf_hooks"
import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { Effect, Layer } from "effect"

/** By how much the old generation grows between two collections, in percent. */
const growth = 80

/** How often to check whether the program is idle, and the part of that time that an idle program may be busy. */
const interval = "2 seconds"
const restingUtilization = 0.1
/** The same for a program to which nothing happens, and for how long, in ms, it must have worked before it is worth a collection. */
const idleUtilization = 0.01
const worthCollecting = 1_000

/** V8's function for a whole collection, which holds the program up: about 1 ms for each MB of live objects. */
const collectGarbage = () => {
  setFlagsFromString("--expose-gc")
  const collect = runInNewContext("gc") as () => void
  setFlagsFromString("--no-expose-gc")
  collect()
}

/** V8 reads both flags whenever it decides; while the program rests it prefers small memory to speed. */
export const layer: Layer.Layer<never> = Layer.effectDiscard(
  Effect.suspend(() => {
    setFlagsFromString(`--heap-growing-percent=${growth}`)
    let last = performance.eventLoopUtilization()
    let collectedAt = last
    let isResting = false
    const look = Effect.sync(() => {
      const now = performance.eventLoopUtilization()
      const { utilization } = performance.eventLoopUtilization(now, last)
      const rests = utilization < restingUtilization
      last = now
      if (rests !== isResting) setFlagsFromString(rests ? "--optimize-for-size" : "--no-optimize-for-size")
      isResting = rests
      if (utilization >= idleUtilization || now.active - collectedAt.active < worthCollecting) return
      collectGarbage()
      last = performance.eventLoopUtilization()
      collectedAt = last
    })
    return Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(interval), look)))
  })
)
