/**
 * Changes of memberships by users: the endpoints for invitations, kicks, bans and knocks, and m.room.member set as state.
 *
 * Source: "Room membership" of the client-server specification.
 */
import type { EventId, RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import type { MatrixError } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"
import type { Session } from "../../runtime/Session.ts"
import type { MembershipLimits } from "../MembershipLimits.ts"
import type { EventRequests } from "./EventRequests.ts"
import { makeInvitedProfiles } from "./InvitedProfiles.ts"
import type { InviteRequests } from "./InviteRequests.ts"
import type { JoinRequests } from "./JoinRequests.ts"
import type { LeaveRequests } from "./LeaveRequests.ts"

/** The membership that a request asks for. */
const membershipFor = { invite: "invite", ban: "ban", kick: "leave", unban: "leave", knock: "knock" } as const

/** The membership changes that lift bans. */
const bannedFor = { invite: {}, ban: {}, kick: { banned: false }, unban: { banned: true } } as const

interface Requests {
  readonly events: EventRequests
  readonly invites: InviteRequests
  readonly joins: JoinRequests
  readonly leaves: LeaveRequests
  readonly limits: MembershipLimits
}

export const makeMembershipRequests = Effect.fnUntraced(function* ({
  events: { propose, transactionOf },
  invites: { invite },
  joins: { knock, ownContent },
  leaves: { leave, leaveOutside },
  limits: { entering }
}: Requests) {
  const invitedProfiles = yield* makeInvitedProfiles

  const setMembership = Effect.fnUntraced(function* (
    session: Session,
    roomId: RoomId,
    action: keyof typeof membershipFor,
    target: UserId,
    reason?: string,
    txnId?: string,
    servers: ReadonlyArray<ServerName> = []
  ) {
    // Bridges leave in this way with a reason, as Synapse lets them.
    if (action === "kick" && target === session.userId) return yield* leave(session, roomId, txnId, reason)
    const transaction = transactionOf(session, action, target, txnId)
    const content = { membership: membershipFor[action], ...(reason === undefined ? {} : { reason }) }
    if (action === "knock") return yield* Effect.asVoid(knock(session, roomId, content, transaction, servers))
    if (action === "invite") {
      const invitation = { ...(yield* invitedProfiles([target])).get(target), ...content }
      return yield* Effect.asVoid(invite(session, roomId, target, invitation, transaction))
    }
    const change = { type: "m.room.member", stateKey: target, content, ...bannedFor[action] }
    yield* propose(session, roomId, change, transaction)
  })

  /** Sets an m.room.member. A user's own join or knock carries the profile; every other membership is taken as it is. */
  const setMember = Effect.fnUntraced(function* (
    session: Session,
    roomId: RoomId,
    stateKey: string,
    content: JsonObject,
    txnId: string | undefined
  ): Effect.fn.Return<{ readonly event_id: EventId }, MatrixError> {
    const transaction = transactionOf(session, "state", "m.room.member", txnId)
    const set = (whole: JsonObject) =>
      propose(session, roomId, { type: "m.room.member", content: whole, stateKey }, transaction)
    const { membership, reason } = content
    if (membership === "invite") return yield* invite(session, roomId, stateKey as UserId, content, transaction)
    if (stateKey !== session.userId) return yield* set(content)
    if (membership === "knock") return yield* knock(session, roomId, content, transaction, [])
    if (membership === "join") {
      return yield* entering(session.userId, roomId, Effect.flatMap(ownContent(session.userId, content), set))
    }
    if (membership !== "leave") return yield* set(content)
    const why = typeof reason === "string" ? reason : undefined
    const left = yield* leaveOutside(session.userId, roomId, why, transaction)
    return left?.event_id === undefined ? yield* set(content) : { event_id: left.event_id }
  })

  return { setMembership, setMember }
})
