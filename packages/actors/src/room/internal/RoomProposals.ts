/**
 * Events that users propose: the checks beyond the authorisation rules, then the event is appended.
 *
 * Source: "Rooms" of the draft, "Sending events to a room" of the client-server specification.
 */
import type { Event } from "@greenroom/protocol/Event"
import type { UserId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { BadState, Forbidden, GuestAccessForbidden, type MatrixError, TooLarge } from "@greenroom/protocol/MatrixError"
import { outsiderRefusal, senderMustBeJoined } from "@greenroom/room/OutsiderRules"
import type { EventProposal } from "@greenroom/room/RoomVersion"
import { tokenOf } from "@greenroom/room/rules/ThirdPartyInviteRules"
import { Effect } from "effect"
import { HomeServerConfig } from "../../runtime/HomeServerConfig.ts"
import { defaultLimits } from "../../runtime/Limits.ts"
import { letsGuestsIn } from "../GuestAccess.ts"
import type { RoomTransaction } from "../RoomProtocol.ts"
import type { RestrictedJoins } from "./RestrictedJoins.ts"
import { makeRoomAnnotations } from "./RoomAnnotations.ts"
import type { RoomAppends } from "./RoomAppends.ts"
import type { RoomState } from "./RoomState.ts"
import type { RoomTyping } from "./RoomTyping.ts"
import type { RoomWriter } from "./RoomWriter.ts"
import { makeThreadRoots } from "./ThreadRoots.ts"

/** Memberships up to this many bytes are accepted, whatever the size of the room's state. */
const usualMembership = 2_048

interface ProposeOptions {
  readonly at?: number | undefined
  readonly banned?: boolean | undefined
  readonly guest?: boolean | undefined
}

const noGuests = new GuestAccessForbidden({ error: "The room does not let guests in" })

const isOwnJoin = ({ content, sender, state_key, type }: EventProposal): boolean =>
  type === "m.room.member" && state_key === sender && content.membership === "join"

const isOwnLeave = ({ content, sender, state_key, type }: EventProposal): boolean =>
  type === "m.room.member" && state_key === sender && content.membership === "leave"

const sameContent = (a: JsonObject, b: JsonObject): boolean => JSON.stringify(a) === JSON.stringify(b)

export const makeRoomProposals = Effect.fnUntraced(function* (
  { load, log, roomId, transactions }: RoomWriter,
  { append }: RoomAppends,
  { stopTyping }: RoomTyping,
  restricted: RestrictedJoins
) {
  const { unlessRepeated } = yield* makeRoomAnnotations

  /** The state event that says the same already, if there is one. */
  const alreadySo = (room: RoomState, proposal: EventProposal): Event | undefined => {
    if (proposal.state_key === undefined) return undefined
    const current = room.lookup(proposal.type, proposal.state_key)
    return current?.sender === proposal.sender && sameContent(current.content, proposal.content) ? current : undefined
  }

  /**
   * Only `unban` lifts a ban, and a banned user's membership cannot change otherwise. Users who are not in the room cannot
   * be kicked.
   */
  const mustBeBanned = (room: RoomState, userId: UserId, banned: boolean) => {
    const membership = room.membershipOf(userId)
    if (!banned && (membership === undefined || membership === "leave")) {
      return new Forbidden({ error: `${userId} is not in the room` })
    }
    if ((membership === "ban") === banned) return Effect.void
    return new BadState({ error: banned ? `${userId} is not banned` : `${userId} is banned: unban lifts the ban` })
  }

  const mustLetGuestsIn = (room: RoomState, proposed: EventProposal) => {
    const { sender } = proposed
    if (
      !isOwnJoin(proposed) ||
      room.membershipOf(sender) === "join" ||
      letsGuestsIn(room.lookup("m.room.guest_access", ""))
    ) {
      return Effect.void
    }
    return noGuests
  }

  /** The refusal for a room that is not here: the same as for an invite-only one. */
  const refuseAsUnknown = (proposed: EventProposal, guest: boolean | undefined) =>
    Effect.fail<MatrixError>(
      guest && isOwnJoin(proposed) ? noGuests : new Forbidden({ error: outsiderRefusal(proposed) })
    )

  /**
   * Whether the checks of a proposal may reveal the state of the room to its sender: to members, to users who stored the token of a
   * third-party invite before they left, and to users who change their own membership. In older versions servers set m.room.aliases
   * without being in the room.
   */
  const isConcerned = (room: RoomState, { content, sender, state_key, type }: EventProposal): boolean => {
    if (room.membershipOf(sender) === "join" || type === "m.room.aliases") return true
    if (type !== "m.room.member") return false
    const token = tokenOf(content)
    const inviter = token === undefined ? undefined : room.lookup("m.room.third_party_invite", token)?.sender
    return state_key === sender || inviter === sender
  }

  const unlessRelated = yield* makeThreadRoots
  const { stateBytes: stateLimit } = { ...defaultLimits, ...(yield* HomeServerConfig).limits }

  /** Whether the state would exceed its size limit. Small memberships are exempt. */
  const growsTooLarge = (room: RoomState, { content, state_key, type }: EventProposal): boolean => {
    if (state_key === undefined) return false
    const bytes = JSON.stringify(content).length
    if (type === "m.room.member" && bytes <= usualMembership) return false
    const replaced = room.lookup(type, state_key)
    const added = bytes - (replaced === undefined ? 0 : JSON.stringify(replaced.content).length)
    return added > 0 && room.current.bytes + added > stateLimit
  }

  /** Finds the member who authorises a user of ours to join a restricted room without an invitation. */
  const vouched = Effect.fnUntraced(function* (room: RoomState, proposal: EventProposal) {
    const { content, sender, state_key, type } = proposal
    if (type !== "m.room.member" || content.membership !== "join" || state_key !== sender) return proposal
    const { join_authorised_via_users_server: _, ...said } = content
    const voucher = yield* restricted.vouch(room, sender)
    if (voucher === undefined) return { ...proposal, content: said }
    return { ...proposal, content: { ...said, join_authorised_via_users_server: voucher } }
  })

  const propose = (proposed: EventProposal, transaction: RoomTransaction | undefined, options: ProposeOptions = {}) =>
    Effect.flatMap(
      Effect.catchTag(load, "M_NOT_FOUND", () => refuseAsUnknown(proposed, options.guest)),
      (room) => {
        if (!room.exists) return refuseAsUnknown(proposed, options.guest)
        if (!isConcerned(room, proposed)) return Effect.fail(new Forbidden({ error: senderMustBeJoined }))
        return proposed.state_key === undefined
          ? unlessRelated(
              room,
              proposed,
              unlessRepeated(room, proposed, append(room, proposed, transaction, undefined, options.at))
            )
          : proposeState(room, proposed, transaction, options)
      }
    )

  const proposeState = Effect.fnUntraced(function* (
    room: RoomState,
    proposed: EventProposal,
    transaction: RoomTransaction | undefined,
    { at, banned, guest }: ProposeOptions
  ) {
    if (guest) yield* mustLetGuestsIn(room, proposed)
    const proposal = yield* vouched(room, proposed)
    const current = alreadySo(room, proposal)
    if (current !== undefined && (room.membershipOf(proposal.sender) === "join" || isOwnLeave(proposal))) {
      const answer = { event_id: current.event_id }
      const remembered = transaction === undefined ? [] : [transactions.row(transaction, roomId, answer)]
      // The event that says so may still be queued itself: this commit is behind it.
      yield* log.append(room.commit(room.beginStep(), { transactions: remembered }))
      return answer
    }
    if (banned !== undefined) yield* mustBeBanned(room, proposal.state_key as UserId, banned)
    if (growsTooLarge(room, proposal)) {
      return yield* new TooLarge({ error: `The state of a room has at most ${stateLimit} bytes: replace some of it` })
    }
    const answer = yield* append(room, proposal, transaction, undefined, at)
    if (proposal.type === "m.room.member" && proposal.content.membership !== "join") {
      yield* stopTyping(proposal.state_key as UserId)
    }
    return answer
  })

  return propose
})
