/**
 * The invitations of addresses that this server keeps for its users: once an address was bound, its user takes the invitation by what
 * the identity server has signed, and is invited in the name of the sender. Each invitation is taken once.
 */
import type { RoomId, ServerName, UserId } from "@greenroom/protocol/Identifiers"
import type { BoundInvite, SignedInvite } from "@greenroom/protocol/identity/OnBind"
import type { JsonObject } from "@greenroom/protocol/Json"
import { Forbidden, LimitExceeded, type MatrixError } from "@greenroom/protocol/MatrixError"
import { isDraft } from "@greenroom/room/DraftRoomVersion"
import { decodeBase64, importVerifyKey, isKeyId, verifyJson } from "@greenroom/room/Signing"
import { RoomStore } from "@greenroom/store/RoomStore"
import { type ThirdPartyInvite, ThirdPartyInviteStore } from "@greenroom/store/ThirdPartyInviteStore"
import { Effect, Option, Result } from "effect"
import { Rooms } from "../../room/Rooms.ts"

/** The most signatures of an invitation that are checked. */
const maxSignatures = 8

/** When one that could not be made yet is worth another try, in ms. */
const retryAfter = 60_000

/** The error that asks for another try later. */
export const notYet = (error: string) => new LimitExceeded({ error, retry_after_ms: retryAfter })

/** The error that ends the attempts. */
export const isFinal = ({ _tag }: MatrixError): boolean => _tag === "M_FORBIDDEN" || _tag === "M_BAD_JSON"

/** Whether one of the keys has signed it, whatever names the signature gives for signer and key. */
export const isSignedBy = (signed: SignedInvite, publicKeys: ReadonlyArray<string>): boolean => {
  const keys = publicKeys.flatMap((text) => {
    const bytes = decodeBase64(text)
    const key = bytes === undefined ? undefined : importVerifyKey(bytes)
    return key !== undefined && Result.isSuccess(key) ? [key.success] : []
  })
  return Object.entries(signed.signatures)
    .flatMap(([signer, byKey]) => Object.keys(byKey).map((keyId) => ({ signer: signer as ServerName, keyId })))
    .filter(({ keyId }) => isKeyId(keyId))
    .slice(0, maxSignatures)
    .some(({ keyId, signer }) =>
      keys.some((key) => Result.isSuccess(verifyJson(signed as unknown as JsonObject, signer, new Map([[keyId, key]]))))
    )
}

/** The fields that accepting an invitation needs. */
export type SignedFor = Pick<BoundInvite, "mxid" | "room_id" | "sender" | "signed">

export const makeKeptInvites = Effect.gen(function* () {
  const invites = yield* ThirdPartyInviteStore
  const memberships = yield* RoomStore
  const rooms = yield* Rooms

  /** Whether the room's version is one of today's, in which the token is part of the room. */
  const isToday = (roomId: RoomId) =>
    Effect.map(memberships.version(roomId), (id) => Option.isSome(id) && !isDraft({ id: id.value }))

  /** Invites the user, in the name of the sender. Does nothing for a user who is invited or joined already. */
  const inviteUser = Effect.fnUntraced(function* (
    { displayName, roomId, sender }: ThirdPartyInvite,
    userId: UserId,
    signed: SignedInvite
  ) {
    const membership = yield* memberships.membership(userId, roomId)
    if (Option.isSome(membership) && ["invite", "join"].includes(membership.value.membership)) return
    const session = { userId: sender, tokenId: 0, deviceId: "" }
    if (!(yield* isToday(roomId))) return yield* rooms.setMembership(session, roomId, "invite", userId)
    const third_party_invite = { display_name: displayName, signed: signed as unknown as JsonObject }
    yield* rooms.setState(session, roomId, "m.room.member", userId, { membership: "invite", third_party_invite })
  })

  const take = Effect.fn("ThirdPartyInvites.take")(function* ({ mxid, room_id, sender, signed }: SignedFor) {
    const found = yield* invites.find(signed.token)
    if (Option.isNone(found) || found.value.roomId !== room_id || found.value.sender !== sender) {
      return yield* new Forbidden({ error: "There is no such invitation" })
    }
    if (signed.mxid !== mxid || !isSignedBy(signed, found.value.publicKeys)) {
      return yield* new Forbidden({
        error: "signed: no valid signature of the identity server that keeps the invitation"
      })
    }
    const claim = yield* invites.claim(signed.token, mxid)
    if (claim === "ended") return
    if (claim === "busy") return yield* notYet("The user is being invited")
    if (claim !== "claimed") return yield* new Forbidden({ error: "Another user has taken the invitation" })
    yield* inviteUser(found.value, mxid, signed).pipe(
      Effect.tapError((error) => (isFinal(error) ? invites.end(signed.token) : Effect.void)),
      Effect.onError(() => invites.release(signed.token))
    )
    yield* invites.end(signed.token)
  })

  return { isToday, take }
})
