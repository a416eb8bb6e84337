/**
 * The messages of the `User` actor.
 */
import { ProfileVisibility } from "@greenroom/protocol/api/ProfileApi"
import { UserId } from "@greenroom/protocol/Identifiers"
import { MatrixError } from "@greenroom/protocol/MatrixError"
import { Schema } from "effect"
import { ClusterSchema, Entity } from "effect/cluster"
import { Rpc } from "effect/rpc"

/** A field of the profile is set, or removed with null. Answered when it is durable. */
const SetProfileField = Rpc.make("SetProfileField", {
  payload: { field: Schema.String, value: Schema.Json, visibility: ProfileVisibility },
  error: MatrixError
})
/** Tells every room of the user what is pending. Takes as long as it takes; nobody waits for it. */
const TellRooms = Rpc.make("TellRooms")
  .annotate(ClusterSchema.InterruptOnTermination, true)
  .annotate(ClusterSchema.Uninterruptible, false)

/** Puts users on this user's presence list. They are still to be asked. */
const InviteToList = Rpc.make("InviteToList", { payload: { observed: Schema.Array(UserId) }, error: MatrixError })
/** Takes users off this user's presence list; those who were on it. */
const DropFromList = Rpc.make("DropFromList", {
  payload: { observed: Schema.Array(UserId) },
  success: Schema.Array(UserId)
})
/** Somebody has put this user on their presence list. True if they may see the user now. */
const PresenceInvited = Rpc.make("PresenceInvited", { payload: { observer: UserId }, success: Schema.Boolean })
/** This user lets somebody who asked see the presence, or does not (any more). Errors: M_NOT_FOUND. */
const AnswerPresenceInvite = Rpc.make("AnswerPresenceInvite", {
  payload: { observer: UserId, accept: Schema.Boolean },
  error: MatrixError
})
/** The account is gone: profile and lists go with it. */
const Forget = Rpc.make("Forget")

/** The entity; its key is the user ID. */
export const User = Entity.make("User", [
  SetProfileField,
  TellRooms,
  InviteToList,
  DropFromList,
  PresenceInvited,
  AnswerPresenceInvite,
  Forget
]).annotateRpcs(ClusterSchema.Uninterruptible, true)

/** How many profile fields a user may have. */
export const maxProfileFields = 100
/** How many users may be on a presence list. */
export const maxPresenceList = 1_000
