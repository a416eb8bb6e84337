/**
 * Membership: who is in a room, joins and leaves.
 *
 * Source: "Rooms" of the draft (the invite and join dance).
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { HistoricalUserId, RoomId, UserId } from "../Identifiers.ts"
import { Medium } from "../identity/ThirdPartyId.ts"
import { JoinedRoom, MessagePage } from "./Answers.ts"
import { Authentication } from "./Authentication.ts"
import { Done, OptionalObject, OptionalObjectOrNull } from "./Body.ts"
import { documented, idempotent } from "./Documentation.ts"
import { RoomIdOrAlias, TransactionId } from "./Parameters.ts"

const reason = Schema.optionalKey(Schema.NullOr(Schema.String).annotate({ expected: "a string" }))

/** The user of an invitation. */
export const Target = Schema.Struct({ user_id: UserId, reason }).annotate({ identifier: "Target" })
export type Target = typeof Target.Type

/** The user of a kick or a ban. */
const ModerationTarget = Schema.Struct({ user_id: HistoricalUserId, reason }).annotate({
  identifier: "ModerationTarget"
})

/** An address to invite, of a user or of a person who is not on Matrix yet. */
export const AddressTarget = Schema.Struct({
  medium: Medium,
  address: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(320)),
  id_server: Schema.optionalKey(
    Schema.String.check(Schema.isMaxLength(255)).annotate({
      description: "The host of one of the identity servers that this server trusts; the first of them if absent"
    })
  )
}).annotate({ identifier: "AddressTarget" })
export type AddressTarget = typeof AddressTarget.Type

/** The user, or the address, to invite. */
export const InviteTarget = Schema.Union([Target, AddressTarget]).annotate({ identifier: "InviteTarget" })
export type InviteTarget = typeof InviteTarget.Type

const inRoom = { roomId: RoomId }
const once = { roomId: RoomId, txnId: TransactionId }

const joinRoom = {
  summary: "Join a room",
  text: "Errors: M_FORBIDDEN, M_NOT_FOUND.",
  who: "users whom the join rules allow"
}
const leaveRoom = {
  summary: "Leave a room, or reject an invitation",
  text: "Errors: M_FORBIDDEN.",
  who: "joined and invited users"
}
const inviteUser = {
  summary: "Invite a user, or an address",
  text:
    "An address that belongs to a user invites the user. Any other gets a message from the identity server, and its user " +
    "is invited after binding it. Errors: M_FORBIDDEN, M_LIMIT_EXCEEDED, M_UNKNOWN if the identity server cannot be reached.",
  who: "members of the room with the power level `invite`"
}
const banUser = {
  summary: "Ban a user",
  text: "Errors: M_FORBIDDEN.",
  who: "members with the power level `ban` who have a higher level than the user"
}
const unbanUser = {
  summary: "Lift a ban",
  text: "An extension of the draft's API. Errors: M_FORBIDDEN, M_BAD_STATE if the user is not banned.",
  who: "members with the power levels `ban` and `kick` who have a higher level than the user"
}
const kickUser = {
  summary: "Remove a user",
  text: "Errors: M_FORBIDDEN, also if the user is banned: a kick does not lift a ban.",
  who: "members with the power level `kick` who have a higher level than the user"
}
const joinAny = {
  summary: "Join a room by its ID or alias",
  text: "Joins over federation if this server is not in the room. Errors: M_FORBIDDEN, M_NOT_FOUND.",
  who: "users whom the join rules allow"
}
const onceOf = (doc: { readonly summary: string; readonly text: string; readonly who: string }) =>
  documented({ ...doc, summary: `${doc.summary}, once`, text: `${doc.text} ${idempotent}` })

const toRoom = { payload: OptionalObject, success: Done } as const
const inviting = { payload: InviteTarget, success: Done } as const
const aboutUser = { payload: ModerationTarget, success: Done } as const
const joining = { payload: OptionalObject, success: JoinedRoom } as const
const joiningAny = { payload: OptionalObjectOrNull, success: JoinedRoom } as const

export class MembershipApi extends HttpApiGroup.make("membership")
  .add(
    HttpApiEndpoint.post("joinRoom", "/rooms/:roomId/join", { params: inRoom, ...joining }).annotateMerge(
      documented(joinRoom)
    ),
    HttpApiEndpoint.put("joinRoomWithTransaction", "/rooms/:roomId/join/:txnId", {
      params: once,
      ...joining
    }).annotateMerge(onceOf(joinRoom)),
    HttpApiEndpoint.post("leave", "/rooms/:roomId/leave", { params: inRoom, ...toRoom }).annotateMerge(
      documented(leaveRoom)
    ),
    HttpApiEndpoint.put("leaveWithTransaction", "/rooms/:roomId/leave/:txnId", {
      params: once,
      ...toRoom
    }).annotateMerge(onceOf(leaveRoom)),
    HttpApiEndpoint.post("invite", "/rooms/:roomId/invite", { params: inRoom, ...inviting }).annotateMerge(
      documented(inviteUser)
    ),
    HttpApiEndpoint.put("inviteWithTransaction", "/rooms/:roomId/invite/:txnId", {
      params: once,
      ...inviting
    }).annotateMerge(onceOf(inviteUser)),
    HttpApiEndpoint.post("ban", "/rooms/:roomId/ban", { params: inRoom, ...aboutUser }).annotateMerge(
      documented(banUser)
    ),
    HttpApiEndpoint.put("banWithTransaction", "/rooms/:roomId/ban/:txnId", {
      params: once,
      ...aboutUser
    }).annotateMerge(onceOf(banUser)),
    HttpApiEndpoint.post("unban", "/rooms/:roomId/unban", { params: inRoom, ...aboutUser }).annotateMerge(
      documented(unbanUser)
    ),
    HttpApiEndpoint.put("unbanWithTransaction", "/rooms/:roomId/unban/:txnId", {
      params: once,
      ...aboutUser
    }).annotateMerge(onceOf(unbanUser)),
    HttpApiEndpoint.post("kick", "/rooms/:roomId/kick", { params: inRoom, ...aboutUser }).annotateMerge(
      documented(kickUser)
    ),
    HttpApiEndpoint.put("kickWithTransaction", "/rooms/:roomId/kick/:txnId", {
      params: once,
      ...aboutUser
    }).annotateMerge(onceOf(kickUser)),
    HttpApiEndpoint.post("join", "/join/:roomIdOrAlias", {
      params: { roomIdOrAlias: RoomIdOrAlias },
      ...joiningAny
    }).annotateMerge(documented(joinAny)),
    HttpApiEndpoint.put("joinByPut", "/join/:roomIdOrAlias", {
      params: { roomIdOrAlias: RoomIdOrAlias },
      ...joiningAny
    }).annotateMerge(documented(joinAny)),
    HttpApiEndpoint.put("joinWithTransaction", "/join/:roomIdOrAlias/:txnId", {
      params: { roomIdOrAlias: RoomIdOrAlias, txnId: TransactionId },
      ...joiningAny
    }).annotateMerge(onceOf(joinAny)),
    HttpApiEndpoint.get("members", "/rooms/:roomId/members", { params: inRoom, success: MessagePage }).annotateMerge(
      documented({
        summary: "The members of a room",
        text: "m.room.member events, with the presence of each user merged into the content. Errors: M_FORBIDDEN.",
        who: "members of the room, past members as of when they left"
      })
    )
  )
  .middleware(Authentication)
  .annotateMerge(
    OpenApi.annotations({ title: "Membership", description: "The members of a room, joins and leaves." })
  ) {}
