/**
 * Waits for work that one node of the cluster does: nothing is asked of the database while there is none.
 *
 *     const signalled = yield* signalsOfWork("removals")
 *     yield* keepRunningOnce("Removing rooms", Effect.andThen(removeAll, signalled))
 */
import { EventLog } from "@greenroom/store/EventLog"
import { signalsWork, type WorkKind } from "@greenroom/store/WorkSignals"
import { Effect, Latch } from "effect"
import { Nodes } from "./Nodes.ts"

/**
 * Waits until, since the last return, work of this kind was signalled, or nodes came or went: a lost node may have left some.
 * For one waiter.
 */
export const signalsOfWork = Effect.fnUntraced(function* (kind: WorkKind) {
  const log = yield* EventLog
  const nodes = yield* Nodes
  const signalled = Latch.makeUnsafe(false)
  yield* log.follow((slice) =>
    Effect.sync(() => {
      if (signalsWork(slice, kind)) signalled.openUnsafe()
    })
  )
  yield* nodes.onChange(() => signalled.openUnsafe())
  return Effect.map(signalled.await, () => {
    signalled.closeUnsafe()
  })
})
