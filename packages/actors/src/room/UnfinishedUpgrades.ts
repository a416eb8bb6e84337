/**
 * Finishes upgrades of rooms that the end of a process or an outage of the database has interrupted, so that no new room stays without a
 * way to it. Those who are refused by now, such as users without the power to upgrade, are given up.
 */
import type { RoomId } from "@greenroom/protocol/Identifiers"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { type UnfinishedUpgrade, UnfinishedUpgradeStore } from "@greenroom/store/UnfinishedUpgradeStore"
import { Clock, Effect, Result } from "effect"
import { handleEach, settled } from "../runtime/ItemFailure.ts"
import { keepRunningOnce } from "../runtime/Singletons.ts"

/** The shortest and the longest wait between two looks for those that are due, in ms. */
const shortestWait = 1_000
const longestWait = 10 * 60_000

/** Finishes upgrades in the background by `resume`, which removes those that it finishes. */
export const finishUpgrades = Effect.fnUntraced(function* (
  resume: (upgrade: UnfinishedUpgrade) => Effect.Effect<RoomId, MatrixError>
) {
  const store = yield* UnfinishedUpgradeStore

  const finish = Effect.fnUntraced(function* (upgrade: UnfinishedUpgrade) {
    const what = `The upgrade of ${upgrade.roomId} by ${upgrade.userId} to version ${upgrade.newVersion}`
    const finished = yield* settled(what, resume(upgrade))
    if (Result.isSuccess(finished)) return yield* Effect.log(`${what}, which was interrupted, is finished`)
    yield* store.remove(upgrade.roomId, upgrade.userId)
    yield* Effect.logWarning(`${what} was interrupted, and stays unfinished: ${finished.failure.error}`)
  })

  const step = Effect.gen(function* () {
    yield* handleEach(yield* store.take, finish)
    const next = yield* store.nextAt
    const now = yield* Clock.currentTimeMillis
    yield* Effect.sleep(Math.min(longestWait, Math.max(shortestWait, (next ?? Number.POSITIVE_INFINITY) - now)))
  })
  yield* keepRunningOnce("Finishing upgrades of rooms", step)
})
