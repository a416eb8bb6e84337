/**
 * Rooms that a user was invited to or knocks at: the view of a room before they enter it.
 *
 * Source: "Stripped state" of the client-server specification.
 */
import { type StrippedEvent, toStrippedEvent } from "@greenroom/protocol/client-server/ClientEvent"
import type { UserId } from "@greenroom/protocol/Identifiers"
import { positionBefore } from "@greenroom/store/StreamToken"
import { makeStrippedStates } from "@greenroom/store/StrippedStates"
import { type MembershipAt, SyncStore } from "@greenroom/store/SyncStore"
import { Effect } from "effect"
import type { IgnoredUsers } from "../../room/IgnoredUsers.ts"
import { allowAll, makeInvitePermission } from "../../room/InvitePermission.ts"
import type { SyncAnswer } from "../SyncAnswer.ts"
import { maxRoomBytes } from "./SyncTimelines.ts"

/** The sender of the user's membership in stripped state. */
const inviterOf = (userId: UserId, events: ReadonlyArray<StrippedEvent>): UserId =>
  (events.findLast(({ state_key, type }) => type === "m.room.member" && state_key === userId)?.sender as UserId) ??
  userId

export const makeStrippedRooms = Effect.gen(function* () {
  const store = yield* SyncStore
  const strippedAt = yield* makeStrippedStates
  const invitePermission = yield* makeInvitePermission

  /**
   * The view of a room before the user enters it: stripped state, and the membership event itself. Clients show an
   * invitation with its time and sort rooms by it.
   */
  const readStripped = Effect.fnUntraced(function* (userId: UserId, room: MembershipAt) {
    const own = yield* store.timelines(
      [{ roomNid: room.roomNid, after: positionBefore(room.changedAt), upTo: room.changedAt }],
      1,
      maxRoomBytes
    )
    const event = own.entries[0]?.event
    const stripped = yield* strippedAt({ roomNid: room.roomNid, at: room.changedAt, event })
    const membership =
      event === undefined || event.state_key !== userId
        ? []
        : [{ ...toStrippedEvent(event), event_id: event.event_id, origin_server_ts: event.origin_server_ts }]
    return { events: [...stripped, ...membership] }
  })

  /** The invitations and knocks among new memberships. Invitations that the user does not want to see are left out. */
  const readEntries = Effect.fnUntraced(function* (
    userId: UserId,
    memberships: ReadonlyArray<MembershipAt>,
    ignored: IgnoredUsers
  ): Effect.fn.Return<Pick<SyncAnswer["rooms"], "invite" | "knock">> {
    const invite: Record<string, { readonly invite_state: { readonly events: ReadonlyArray<unknown> } }> = {}
    const knock: Record<string, { readonly knock_state: { readonly events: ReadonlyArray<unknown> } }> = {}
    const isInvited = memberships.some(({ membership }) => membership === "invite")
    const verdict = isInvited ? yield* invitePermission.of(userId) : allowAll
    const isShown = (inviter: UserId) => !ignored.has(inviter) && verdict(inviter) === "allow"
    for (const room of memberships) {
      if (room.membership === "invite") {
        const stripped = yield* readStripped(userId, room)
        if (isShown(inviterOf(userId, stripped.events))) invite[room.roomId] = { invite_state: stripped }
      } else if (room.membership === "knock") {
        knock[room.roomId] = { knock_state: yield* readStripped(userId, room) }
      }
    }
    return { invite, knock }
  })

  return { readStripped, readEntries }
})

export type StrippedRooms = Effect.Success<typeof makeStrippedRooms>
