/**
 * Keeps the full-text index of messages up to date. It follows the log; a search brings it up to date at once. Indexing leaves most
 * of the time of the processors to what clients wait for, above all while many events come.
 */
import { EventLog } from "@greenroom/store/EventLog"
import { SearchStore } from "@greenroom/store/SearchStore"
import { keepRunning } from "@greenroom/store/Supervision"
import { Duration, Effect, Latch, Semaphore } from "effect"

/**
 * The part of the time that indexing takes while events come, by how many are missing. What is indexed in a few seconds is left to a
 * pause, or to a search: PostgreSQL indexes 20,000 in about a second.
 */
const indexingShare = (missing: number): number => (missing < 200_000 ? 0.01 : missing < 1_000_000 ? 0.1 : 1)

/** The part of the time that indexing takes while no events come: clients read then what was sent before. */
const shareAtRest = 0.2

/** How long indexing waits at most before it looks whether events still come. */
const longestBreak = Duration.seconds(1)

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
  const follow = Effect.gen(function* () {
    yield* grown.await
    const before = seen
    const [took, isDone] = yield* lock.withPermit(Effect.timed(store.indexNext))
    if (isDone) {
      indexed = Math.max(indexed, before)
      if (seen === before) grown.closeUnsafe()
      yield* Effect.sleep("1 second")
    } else {
      const share = Math.max(indexingShare(seen - indexed), seen > before ? 0 : shareAtRest)
      yield* Effect.sleep(Duration.min(longestBreak, Duration.times(took, 1 / share - 1)))
    }
  })
  yield* keepRunning("Indexing what is said in rooms", follow)

  return {
    /** Indexes every event that this node has read from the log. */
    indexAll
  }
})
