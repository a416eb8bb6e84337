/**
 * Keeps the full-text index of messages up to date. It follows the log; a search brings it up to date at once. Indexing leaves most
 * of the time of the processors to what clients wait for.
 */
import { EventLog } from "@greenroom/store/EventLog"
import { SearchStore } from "@greenroom/store/SearchStore"
import { keepRunning } from "@greenroom/store/Supervision"
import { Effect, Latch, Semaphore } from "effect"
import { inSpareTime, pauseAfter } from "../../runtime/SpareTime.ts"

/**
 * The part of the time that indexing takes while the node is busy, by how many events are missing. What is indexed in a few seconds is
 * left to a pause, or to a search: PostgreSQL indexes 20,000 in about a second.
 */
const busyShare = (missing: number): number => (missing < 200_000 ? 0.01 : missing < 1_000_000 ? 0.1 : 1)

/** The part at rest: clients read then what was sent before. */
const shareAtRest = 0.2

export const makeSearchIndexing = Effect.gen(function* () {
  const store = yield* SearchStore
  const log = yield* EventLog

  let seen = 0
  let indexed = Number.NEGATIVE_INFINITY
  const grown = Latch.makeUnsafe(true)
  yield* log.follow((slice) =>
    Effect.sync(() => {
      if (slice.events.length === 0) return
      seen += slice.events.length
      grown.openUnsafe()
    })
  )
  // Whoever waits for the lock finds the work of the others done.
  const lock = yield* Semaphore.make(1)
  const indexAll = lock.withPermit(
    Effect.suspend(() => {
      const before = seen
      const repeated = Effect.repeat(store.indexNext, { until: (isDone) => isDone })
      return Effect.map(repeated, () => {
        indexed = Math.max(indexed, before)
      })
    })
  )
  const indexSlowly = Effect.suspend(() => {
    const before = seen
    const indexing = inSpareTime(lock.withPermit(store.indexNext), () => {
      const busy = busyShare(seen - indexed)
      return { busy, atRest: Math.max(busy, shareAtRest) }
    })
    return Effect.tap(indexing, (isDone) =>
      Effect.sync(() => {
        if (!isDone) return
        indexed = Math.max(indexed, before)
        if (seen === before) grown.closeUnsafe()
      })
    )
  })
  yield* keepRunning(
    "Indexing what is said in rooms",
    Effect.gen(function* () {
      yield* grown.await
      // What follows an event soon is indexed with it.
      yield* pauseAfter("5 seconds")
      yield* Effect.repeat(indexSlowly, { until: (isDone) => isDone })
    })
  )

  return {
    /** Indexes every event that this node has read from the log. */
    indexAll
  }
})
