/**
 * The messages of the `Peer` actor.
 */
import { JsonObject } from "@greenroom/protocol/Json"
import { Schema } from "effect"
import { ClusterSchema, Entity } from "effect/cluster"
import { Rpc } from "effect/rpc"
import { AnswerWithin } from "../runtime/Repetition.ts"

const Edu = Schema.Struct({
  edu_type: Schema.String,
  content: JsonObject
})

/**
 * Something was committed for the server. Answered when nothing waits any longer, or the server is in back-off: with the rest
 * of the back-off in milliseconds (0 without one).
 */
const Drain = Rpc.make("Drain", { success: Schema.Struct({ backoff: Schema.Number }) })
  .annotate(ClusterSchema.InterruptOnTermination, true)
  .annotate(AnswerWithin, "1 hour")
  .annotate(ClusterSchema.Uninterruptible, false)
/** Receipts for the server were stored (`OutgoingReceiptStore`). They wait while it is in back-off. */
const ReceiptsQueued = Rpc.make("ReceiptsQueued")
/** EDUs for the server. Dropped while it is in back-off. */
const QueueEdus = Rpc.make("QueueEdus", { payload: { edus: Schema.Array(Edu) } })
/** The server was heard from, and can be reached again. */
const HeardFrom = Rpc.make("HeardFrom")

/** The entity; its key is the server name. */
export const Peer = Entity.make("Peer", [Drain, ReceiptsQueued, QueueEdus, HeardFrom]).annotateRpcs(
  ClusterSchema.Uninterruptible,
  true
)
