/**
 * m.room.invite_join: a user asks another server, the `target_host` in its content, to make their membership of a room.
 * Servers that speak only the draft join in this way. The user's server signs it as any PDU. It is not part of the
 * room's graph, so that server needs to know nothing about the graph.
 *
 * The membership carries it, in PDU form under `invite_join`. So every server that sees the membership sees for itself
 * that the user asked for it, and the rules decide by what the event and the room's state hold, as for all others.
 *
 * It can be used once. A user who was invited to the room, or was there before, names the membership that they have: as
 * one of `prev_events` or `auth_events`. Once they have another, it counts no longer.
 *
 * Source: "Rooms" of the draft.
 */
import { isDeepStrictEqual } from "node:util"
import type { Event } from "@greenroom/protocol/Event"
import { type EventId, serverNameOf } from "@greenroom/protocol/Identifiers"
import { Result } from "effect"
import type { EventProposal } from "../RoomVersion.ts"
import { fromPdu, toPdu } from "./DraftPdu.ts"

const isFor = (event: Event, inviteJoin: Event): boolean =>
  inviteJoin.type === "m.room.invite_join" &&
  inviteJoin.room_id === event.room_id &&
  inviteJoin.sender === event.sender &&
  inviteJoin.origin === serverNameOf(event.sender) &&
  inviteJoin.content.target_host === event.origin

/**
 * The m.room.invite_join by which the sender of a membership asked its origin, another server than their own, to make it.
 * Its signature has to be verified with that of the membership.
 */
export const inviteJoinOf = (event: Event): Event | undefined => {
  if (event.invite_join === undefined || event.type !== "m.room.member") return undefined
  if (event.origin === serverNameOf(event.sender)) return undefined
  const carried = Result.getOrUndefined(fromPdu(event.invite_join))
  return carried !== undefined && isFor(event, carried) ? carried : undefined
}

/** Whether the user with this membership made it, and after the membership. */
export const namesMembership = (inviteJoin: Event, membership: EventId): boolean =>
  inviteJoin.prev_events.includes(membership) || inviteJoin.auth_events.includes(membership)

/** The membership that it asks for: with what else it says, such as the display name. */
export const membershipFor = (inviteJoin: Event): EventProposal => {
  const { target_host: _, ...profile } = inviteJoin.content
  return {
    room_id: inviteJoin.room_id,
    type: "m.room.member",
    sender: inviteJoin.sender,
    state_key: inviteJoin.sender,
    content: { ...profile, membership: "join" },
    invite_join: toPdu(inviteJoin)
  }
}

/** Whether a membership contains nothing about the user but their own content. */
export const saysWhatWasAsked = (event: Event, inviteJoin: Event): boolean =>
  isDeepStrictEqual({ ...event.content }, { ...membershipFor(inviteJoin).content })
