/**
 * The messages of the `RemoteDevices` actor.
 */
import { UserId } from "@greenroom/protocol/Identifiers"
import { Schema } from "effect"
import { ClusterSchema, Entity } from "effect/cluster"
import { Rpc } from "effect/rpc"
import { AnswerWithin } from "../runtime/Repetition.ts"

/**
 * Asks the server for the devices of users and stores them. Requests for the same users share one question. Answers with the
 * users whose devices the server did not give. `isUrgent` asks even a server that could not be reached lately.
 */
const Fetch = Rpc.make("Fetch", {
  payload: { userIds: Schema.Array(UserId), isUrgent: Schema.Boolean },
  success: Schema.Array(UserId)
}).annotate(AnswerWithin, "2 minutes")
/** Lists of the server are stale: asks for those whose back-off is over. May take long; callers do not wait for it. */
const Resync = Rpc.make("Resync")
  .annotate(ClusterSchema.InterruptOnTermination, true)
  .annotate(AnswerWithin, "1 hour")
  .annotate(ClusterSchema.Uninterruptible, false)

/** The entity; its key is the server name. */
export const RemoteDevices = Entity.make("RemoteDevices", [Fetch, Resync]).annotateRpcs(
  ClusterSchema.Uninterruptible,
  true
)
