/**
 * The rules that refuse a user outside of an invite-only room, in the words of every room version. A server gives the same
 * refusals for rooms that it does not have, so that outsiders do not learn whether a room exists.
 *
 * Source: the authorisation rules of the room versions.
 */
import type { EventProposal } from "./RoomVersion.ts"

export const senderMustBeJoined = "The sender must be in the room"
export const joinerMustBeInvited = "Users need an invite to join, unless the join rules of the room let them in"
export const leaverMustBeThere = "Users leave rooms that they are in, are invited to or knock at"
export const roomMustTakeKnocks = "Users knock at rooms whose join rule allows it"

/** The rule that refuses the event in an invite-only room whose sender is outside. */
export const outsiderRefusal = ({ content, sender, state_key, type }: EventProposal): string => {
  if (type !== "m.room.member" || state_key !== sender) return senderMustBeJoined
  switch (content.membership) {
    case "join":
      return joinerMustBeInvited
    case "knock":
      return roomMustTakeKnocks
    case "leave":
      return leaverMustBeThere
    default:
      return senderMustBeJoined
  }
}
