/**
 * Joining, knocking, leaving, inviting, kicking and banning by today's client API, as calls of `Rooms`, and of `ThirdPartyInvites`
 * where an address is invited.
 *
 * Source: "Room membership" of the client-server specification.
 */
import { ThirdPartyInvites } from "@greenroom/actors/identity/ThirdPartyInvites"
import { Rooms } from "@greenroom/actors/room/Rooms"
import type { Session } from "@greenroom/actors/runtime/Session"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { isRoomId, isUserId, type RoomAlias, type RoomId, type UserId } from "@greenroom/protocol/Identifiers"
import { isJsonObject, type Json, type JsonObject } from "@greenroom/protocol/Json"
import { BadJson, MissingParam } from "@greenroom/protocol/MatrixError"
import { Effect, Struct } from "effect"
import { addressToInvite } from "./AddressToInvite.ts"
import { namedServers } from "./NamedServers.ts"

/** The reason that a body may give. Errors: M_BAD_JSON. */
const reasonOf = (body: JsonObject | null | undefined): Effect.Effect<string | undefined, BadJson> => {
  const reason = body?.reason ?? undefined
  return reason === undefined || typeof reason === "string"
    ? Effect.succeed(reason)
    : Effect.fail(new BadJson({ error: "reason: expected string" }))
}

/**
 * The fields that a user adds to their own membership: `reason`, and fields of the user's own, as Synapse takes them. The
 * profile is that of the account, and the server chooses who authorises a join.
 */
const membershipContent = (body: JsonObject | null | undefined): Effect.Effect<JsonObject, BadJson> =>
  Effect.map(reasonOf(body), (reason): JsonObject => {
    const { auth, avatar_url, displayname, join_authorised_via_users_server, membership, third_party_signed, ...own } =
      body ?? {}
    return reason === undefined ? Struct.omit(own, ["reason"]) : own
  })

export interface Moderation {
  readonly user_id: UserId
  readonly reason?: string | null | undefined
}

/** The endpoints of memberships. */
export const makeMembershipRequests = Effect.gen(function* () {
  const rooms = yield* Rooms
  const invites = yield* ThirdPartyInvites

  /** Users who opened the link of an invitation by mail bring what the identity server has signed. */
  const acceptInvite = Effect.fnUntraced(function* (
    session: Session,
    roomIdOrAlias: RoomId | RoomAlias,
    signed: Json | undefined
  ) {
    if (signed == null) return
    if (!isJsonObject(signed)) return yield* new BadJson({ error: "third_party_signed: expected an object" })
    const roomId = isRoomId(roomIdOrAlias) ? roomIdOrAlias : (yield* rooms.resolveAlias(roomIdOrAlias)).room_id
    yield* invites.accept(session, roomId, signed)
  })

  const join = (roomIdOrAlias: RoomId | RoomAlias, body: JsonObject | null | undefined) =>
    CurrentSession.use((session) =>
      Effect.gen(function* () {
        const content = yield* membershipContent(body)
        yield* acceptInvite(session, roomIdOrAlias, body?.third_party_signed)
        return yield* rooms.join(session, roomIdOrAlias, content, undefined, yield* namedServers)
      })
    )

  const invite = Effect.fnUntraced(function* (roomId: RoomId, body: JsonObject) {
    const session = yield* CurrentSession
    const { user_id } = body
    if (user_id === undefined && body.address !== undefined) {
      yield* invites.invite(session, roomId, yield* addressToInvite(body))
      return done
    }
    if (user_id === undefined) return yield* new MissingParam({ error: "user_id: missing key" })
    if (typeof user_id !== "string" || !isUserId(user_id)) {
      return yield* new BadJson({ error: "user_id: expected a user ID" })
    }
    yield* rooms.setMembership(session, roomId, "invite", user_id, yield* reasonOf(body))
    return done
  })

  const knock = (target: RoomId | RoomAlias, body: JsonObject | null | undefined) =>
    CurrentSession.use((session) =>
      Effect.gen(function* () {
        const named = yield* namedServers
        const { room_id: roomId, servers } = isRoomId(target)
          ? { room_id: target, servers: [] }
          : yield* rooms.resolveAlias(target)
        const through = [...named, ...servers]
        const reason = yield* reasonOf(body)
        yield* rooms.setMembership(session, roomId, "knock", session.userId, reason, undefined, through)
        return { room_id: roomId }
      })
    )

  const leave = (roomId: RoomId, body: JsonObject | null | undefined) =>
    CurrentSession.use((session) =>
      Effect.flatMap(reasonOf(body), (reason) => Effect.as(rooms.leave(session, roomId, undefined, reason), done))
    )

  const moderate = (change: "kick" | "ban" | "unban", roomId: RoomId, { reason, user_id }: Moderation) =>
    CurrentSession.use((session) =>
      Effect.as(rooms.setMembership(session, roomId, change, user_id, reason ?? undefined), done)
    )

  return { join, knock, leave, invite, moderate }
})
