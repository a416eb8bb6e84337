/**
 * The messages of the `User` actor.
 */
import { ProfileVisibility } from "@greenroom/protocol/api/ProfileApi"
import { UserId } from "@greenroom/protocol/Identifiers"
import { MatrixError } from "@greenroom/protocol/MatrixError"
import { Schema } from "effect"
import { ClusterSchema, Entity } from "effect/cluster"
import { Rpc } from "effect/rpc"
import { AnswerWithin } from "../runtime/Repetition.ts"

/** Sets a field of the profile, or removes it with null. Answered when it is durable. */
const SetProfileField = Rpc.make("SetProfileField", {
  payload: { field: Schema.String, value: Schema.Json, visibility: ProfileVisibility },
  error: MatrixError
})
/** Puts a pending change of the profile into all memberships of the user. May take long; callers do not wait for it. */
const PropagateProfile = Rpc.make("PropagateProfile")
  .annotate(ClusterSchema.InterruptOnTermination, true)
  .annotate(AnswerWithin, "1 hour")
  .annotate(ClusterSchema.Uninterruptible, false)

/** Adds users to the presence list. Their permission is requested separately. */
const InviteToList = Rpc.make("InviteToList", { payload: { observed: Schema.Array(UserId) }, error: MatrixError })
/** Removes users from the presence list. Answers with those who were on it. */
const DropFromList = Rpc.make("DropFromList", {
  payload: { observed: Schema.Array(UserId) },
  success: Schema.Array(UserId)
})
/** `observer` has put this user on their presence list. True if they may see the presence now. */
const PresenceInvited = Rpc.make("PresenceInvited", { payload: { observer: UserId }, success: Schema.Boolean })
/** Gives or withdraws the permission to see the presence. Errors: M_NOT_FOUND if `observer` has not asked. */
const AnswerPresenceInvite = Rpc.make("AnswerPresenceInvite", {
  payload: { observer: UserId, accept: Schema.Boolean },
  error: MatrixError
})
/** The account was deactivated: removes profile and lists. */
const Forget = Rpc.make("Forget")

/** The entity; its key is the user ID. */
export const User = Entity.make("User", [
  SetProfileField,
  PropagateProfile,
  InviteToList,
  DropFromList,
  PresenceInvited,
  AnswerPresenceInvite,
  Forget
]).annotateRpcs(ClusterSchema.Uninterruptible, true)

/** How many profile fields a user may have. */
export const maxProfileFields = 100
/** How many bytes of JSON a profile may have: the specification's limit. */
export const maxProfileBytes = 65_536
/** How many users may be on a presence list. */
export const maxPresenceList = 1_000
