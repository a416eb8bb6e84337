/** Keeps the user directory up to date: in the background as the log grows, and at once for a search. */
import { EventLog } from "@greenroom/store/EventLog"
import { keepRunning } from "@greenroom/store/Supervision"
import { UserDirectoryStore } from "@greenroom/store/UserDirectoryStore"
import { Effect, Latch } from "effect"
import { inSpareTime, pauseAfter } from "../../runtime/SpareTime.ts"

/** How long a search waits for the directory to contain the newest changes. */
const indexTimeout = "2 seconds"

/** The parts of the time that the work in the background takes. */
const shares = { atRest: 0.2, busy: 0.02 }

const types: ReadonlySet<string> = new Set(["m.room.member", "m.room.join_rules", "m.room.history_visibility"])

/** Starts to follow the log. The result brings the directory up to date, and gives up after a while. */
export const makeDirectoryIndexing = Effect.gen(function* () {
  const directory = yield* UserDirectoryStore
  const log = yield* EventLog
  const changed = Latch.makeUnsafe(true)
  yield* log.follow(({ events }) =>
    Effect.sync(() => {
      if (events.some(({ event }) => types.has(event.type))) changed.openUnsafe()
    })
  )
  const isDone = (done: boolean) => done
  const indexAll = Effect.repeat(directory.indexNext, { until: isDone })
  const indexSlowly = Effect.repeat(
    inSpareTime(directory.indexNext, () => shares),
    { until: isDone }
  )
  yield* keepRunning(
    "Keeping the user directory up to date",
    Effect.gen(function* () {
      yield* changed.await
      yield* pauseAfter("3 seconds")
      changed.closeUnsafe()
      yield* indexSlowly
    })
  )
  return Effect.asVoid(Effect.timeoutOption(indexAll, indexTimeout))
})
