/**
 * Room actors end their members' typing by timers in memory. If a node is lost its rooms start anew on another one, without
 * these timers: one of the nodes publishes that no one types there.
 */
import { Effect, Layer } from "effect"
import { latchOfChanges, Nodes } from "../runtime/Nodes.ts"
import { keepRunningOnce } from "../runtime/Singletons.ts"
import { EphemeralStream } from "./EphemeralStream.ts"

const make = Effect.gen(function* () {
  const stream = yield* EphemeralStream
  const changed = yield* latchOfChanges(yield* Nodes)
  const endTyping = Effect.suspend(() =>
    Effect.forEach(
      stream.orphaned().filter((update) => update._tag === "typing" && update.userIds.length > 0),
      (update) => (update._tag === "typing" ? stream.publishTyping(update.roomId, []) : Effect.void),
      { discard: true }
    )
  )
  yield* keepRunningOnce("Ending typing in the rooms of lost nodes", Effect.andThen(changed, endTyping))
})

/** Runs until the scope closes. */
export const layer = Layer.effectDiscard(make)
