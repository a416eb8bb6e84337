/**
 * Membership, as calls of `Rooms`, and of `ThirdPartyInvites` where an address is invited.
 *
 * Source: "Rooms" of the draft (the invite and join dance).
 */
import { ThirdPartyInvites } from "@greenroom/actors/identity/ThirdPartyInvites"
import { Rooms } from "@greenroom/actors/room/Rooms"
import { CurrentSession } from "@greenroom/protocol/api/Authentication"
import { done } from "@greenroom/protocol/api/Body"
import { ClientApi } from "@greenroom/protocol/api/ClientApi"
import type { InviteTarget, Target } from "@greenroom/protocol/api/MembershipApi"
import type { RoomAlias, RoomId } from "@greenroom/protocol/Identifiers"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Effect } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { withServices } from "./EndpointServices.ts"

export const membershipHandlers = HttpApiBuilder.group(ClientApi, "membership", (handlers) =>
  withServices(function* () {
    const rooms = yield* Rooms
    const invites = yield* ThirdPartyInvites

    const leave = (roomId: RoomId, txnId?: string) =>
      CurrentSession.use((session) => Effect.as(rooms.leave(session, roomId, txnId), done))

    const about = (action: "invite" | "ban" | "kick" | "unban", roomId: RoomId, target: Target, txnId?: string) =>
      CurrentSession.use((session) =>
        Effect.as(rooms.setMembership(session, roomId, action, target.user_id, target.reason ?? undefined, txnId), done)
      )

    const invite = (roomId: RoomId, target: InviteTarget, txnId?: string) =>
      "user_id" in target
        ? about("invite", roomId, target, txnId)
        : CurrentSession.use((session) => Effect.as(invites.invite(session, roomId, target, txnId), done))

    const join = (room: RoomId | RoomAlias, content: JsonObject | null | undefined, txnId?: string) =>
      CurrentSession.use((session) => rooms.join(session, room, content ?? {}, txnId))

    return handlers
      .handle("joinRoom", ({ params, payload }) => join(params.roomId, payload))
      .handle("joinRoomWithTransaction", ({ params, payload }) => join(params.roomId, payload, params.txnId))
      .handle("leave", ({ params }) => leave(params.roomId))
      .handle("leaveWithTransaction", ({ params }) => leave(params.roomId, params.txnId))
      .handle("invite", ({ params, payload }) => invite(params.roomId, payload))
      .handle("inviteWithTransaction", ({ params, payload }) => invite(params.roomId, payload, params.txnId))
      .handle("ban", ({ params, payload }) => about("ban", params.roomId, payload))
      .handle("banWithTransaction", ({ params, payload }) => about("ban", params.roomId, payload, params.txnId))
      .handle("unban", ({ params, payload }) => about("unban", params.roomId, payload))
      .handle("unbanWithTransaction", ({ params, payload }) => about("unban", params.roomId, payload, params.txnId))
      .handle("kick", ({ params, payload }) => about("kick", params.roomId, payload))
      .handle("kickWithTransaction", ({ params, payload }) => about("kick", params.roomId, payload, params.txnId))
      .handle("join", ({ params, payload }) => join(params.roomIdOrAlias, payload))
      .handle("joinByPut", ({ params, payload }) => join(params.roomIdOrAlias, payload))
      .handle("joinWithTransaction", ({ params, payload }) => join(params.roomIdOrAlias, payload, params.txnId))
      .handle("members", ({ params }) => CurrentSession.use((session) => rooms.members(session, params.roomId)))
  })
)
