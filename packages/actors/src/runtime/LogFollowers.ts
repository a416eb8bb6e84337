/** Notifies the event log whether other nodes follow it: it then announces the rows of each commit to them. */
import { EventLog } from "@greenroom/store/EventLog"
import { Effect, Layer } from "effect"
import { Nodes } from "./Nodes.ts"

const make = Effect.gen(function* () {
  const log = yield* EventLog
  const nodes = yield* Nodes
  const count = () => log.isFollowed(nodes.count() > 1)
  yield* nodes.onChange(count)
  count()
})

/** Runs until the scope closes. */
export const layer = Layer.effectDiscard(make)
