/**
 * Restricted rooms: members of other rooms may join, if a member who may invite vouches for them. The server of that member
 * has looked into it, and signs the join.
 *
 * Source: "Restricted rooms" of the client-server and server-server specifications.
 */
import type { Event } from "@greenroom/protocol/Event"
import { type RoomId, type ServerName, serverNameOf, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject } from "@greenroom/protocol/Json"
import { Forbidden, type MatrixError, UnableToAuthoriseJoin, UnableToGrantJoin } from "@greenroom/protocol/MatrixError"
import type { StateLookup } from "@greenroom/room/RoomVersion"
import { RoomServerStore } from "@greenroom/store/RoomServerStore"
import { RoomStore } from "@greenroom/store/RoomStore"
import { Effect, Option } from "effect"
import type { RoomState } from "./RoomState.ts"

/** The most rooms of a restricted join rule that are checked for a membership. */
const maxRooms = 50

/** The rooms whose members a restricted room lets in. */
export const allowedRooms = (joinRules: Event | undefined): ReadonlyArray<RoomId> => {
  const allow = joinRules?.content.allow
  if (!Array.isArray(allow)) return []
  return allow.flatMap((condition) =>
    isJsonObject(condition) && condition.type === "m.room_membership" && typeof condition.room_id === "string"
      ? [condition.room_id as RoomId]
      : []
  )
}

const isRestricted = ({ version }: RoomState, state: StateLookup): boolean =>
  version.restrictedRules.has(String(state("m.room.join_rules", "")?.content.join_rule))

export const makeRestrictedJoins = Effect.gen(function* () {
  const rooms = yield* RoomStore
  const servers = yield* RoomServerStore

  /**
   * Whether a user is in one of the rooms; undefined where this server cannot know: it has no users in any of them, or the user is of
   * another server, which may be in others of them.
   */
  const isMember = Effect.fnUntraced(function* (ours: ServerName, userId: UserId, given: ReadonlyArray<RoomId>) {
    const allowed = [...new Set(given)]
    if (allowed.length === 0) return false
    const known = yield* servers.roomsWith(ours, allowed.slice(0, maxRooms))
    for (const roomId of known) {
      const membership = yield* rooms.membership(userId, roomId)
      if (Option.isSome(membership) && membership.value.membership === "join") return true
    }
    const isCertain = serverNameOf(userId) === ours ? known.size > 0 : known.size === allowed.length
    return isCertain ? false : undefined
  })

  /** One of our members who may invite. */
  const voucherOf = (room: RoomState, state: StateLookup): UserId | undefined => {
    const levels = room.version.levels(state)
    for (const [key, { event }] of room.current.entries()) {
      if (!key.startsWith("m.room.member\0") || event.content.membership !== "join") continue
      const userId = event.state_key as UserId
      if (serverNameOf(userId) === room.ours && levels.user(userId) >= levels.of("invite")) return userId
    }
    return undefined
  }

  /**
   * The user of this server that authorises a restricted join; undefined if none is needed. Errors: M_FORBIDDEN,
   * M_UNABLE_TO_AUTHORISE_JOIN if this server does not know all of the rooms that the user could be in, M_UNABLE_TO_GRANT_JOIN
   * where nobody here may invite.
   */
  const vouch = Effect.fnUntraced(function* (
    room: RoomState,
    userId: UserId
  ): Effect.fn.Return<UserId | undefined, MatrixError> {
    const state = room.lookup
    const membership = room.membershipOf(userId)
    if (!isRestricted(room, state) || membership === "join" || membership === "invite") return undefined
    const member = yield* isMember(room.ours, userId, allowedRooms(state("m.room.join_rules", "")))
    if (member === undefined) {
      return yield* new UnableToAuthoriseJoin({ error: "This server does not know all rooms whose members may join" })
    }
    if (!member) return yield* new Forbidden({ error: `${userId} is in none of the rooms whose members may join` })
    const voucher = voucherOf(room, state)
    if (voucher !== undefined) return voucher
    return yield* new UnableToGrantJoin({ error: "No member of this server may invite" })
  })

  return { vouch }
})

export type RestrictedJoins = Effect.Success<typeof makeRestrictedJoins>
