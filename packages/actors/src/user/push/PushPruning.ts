/**
 * Removes old notifications: read ones after 30 days, all after a year.
 */
import { plural } from "@greenroom/protocol/Plural"
import { PushPruningStore } from "@greenroom/store/PushPruningStore"
import { Clock, Effect, Layer } from "effect"
import { periodicallyOnce } from "../../runtime/Singletons.ts"

const day = 86_400_000
const readFor = 30 * day
const keptFor = 365 * day

/** The most rows that one statement examines. */
const batch = 5_000

const make = Effect.gen(function* () {
  const store = yield* PushPruningStore
  const prune = Effect.gen(function* () {
    const now = yield* Clock.currentTimeMillis
    yield* store.mark(now)
    const removed = yield* store.prune({ readBefore: now - readFor, allBefore: now - keptFor, batch })
    if (removed > 0) yield* Effect.logDebug(`Removed ${plural(removed, "row")} of old notifications`)
  })
  yield* periodicallyOnce("Removing old notifications", "1 day", prune, { atOnce: true })
})

export const layer = Layer.effectDiscard(make).pipe(Layer.provide(PushPruningStore.layer))
