/**
 * Keeps the heap of a program small: V8 collects garbage before it has more than doubled, and returns unused memory to the
 * system when the load falls. By default V8 lets the old generation grow to four times the live objects, and its memory
 * reducer does not run while anything is allocated.
 */
import { performance } from "node:perf_hooks"
import { setFlagsFromString } from "node:v8"
import { Effect, Layer } from "effect"

/** By how much the old generation grows between two collections, in percent. */
const growth = 80

/** How often to check whether the program is idle, and the part of that time that an idle program may be busy. */
const interval = "5 seconds"
const restingUtilization = 0.1

/** V8 reads both flags whenever it decides; while the program rests it prefers small memory to speed. */
export const layer: Layer.Layer<never> = Layer.effectDiscard(
  Effect.suspend(() => {
    setFlagsFromString(`--heap-growing-percent=${growth}`)
    let last = performance.eventLoopUtilization()
    let isResting = false
    const look = Effect.sync(() => {
      const now = performance.eventLoopUtilization()
      const rests = performance.eventLoopUtilization(now, last).utilization < restingUtilization
      last = now
      if (rests !== isResting) setFlagsFromString(rests ? "--optimize-for-size" : "--no-optimize-for-size")
      isResting = rests
    })
    return Effect.forkScoped(Effect.forever(Effect.andThen(Effect.sleep(interval), look)))
  })
)
