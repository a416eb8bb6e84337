/**
 * The request of an identity server to the home server of a user, when an address that was invited to rooms is bound to the
 * user: `POST /_matrix/federation/v1/3pid/onbind` with an `OnBind` as its body.
 *
 * Each invitation carries `signed`, the identity server's signature over `{mxid, token}`. The `token` is the one that
 * `store-invite` gave to the inviting home server, that of `sender`, which keeps it together with the identity server's
 * public keys; so it can check that this user may take the invitation. The home server of the user asks it to invite the
 * user: `PUT /exchange_third_party_invite/<room ID>` with the `BoundInvite`.
 *
 * The home server answers 200 with `{}`. 400 and 403 end the attempts; after anything else the identity server tries
 * again, so the same request may come twice.
 *
 * Source: "Identity" of the draft.
 */
import { Schema } from "effect"
import { RoomId, UserId } from "../Identifiers.ts"
import { Medium } from "./ThirdPartyId.ts"

/** The path of the request at the home server. */
export const onBindPath = "/_matrix/federation/v1/3pid/onbind"

/** The most invitations in one request, and the most that are kept for one address. */
export const maxInvitesPerAddress = 100

const signedFields = {
  mxid: UserId,
  token: Schema.String,
  signatures: Schema.Record(Schema.String, Schema.Record(Schema.String, Schema.String))
}
/** What identity servers sign beside the fields is part of the signed object. */
const rest = [Schema.Record(Schema.String, Schema.Json)] as const

/** The proof that `mxid` may take the invitation `token`. */
export const SignedInvite = Schema.StructWithRest(Schema.Struct(signedFields), rest)
export type SignedInvite = typeof SignedInvite.Type

/** The proof that a user brings who opened the link in the message: it names the `sender` of the invitation, too. */
export const SignedBySender = Schema.StructWithRest(Schema.Struct({ ...signedFields, sender: UserId }), rest)

/** An invitation of the address that was bound. */
export const BoundInvite = Schema.Struct({
  medium: Medium,
  address: Schema.String,
  mxid: UserId,
  room_id: RoomId,
  sender: UserId,
  signed: SignedInvite
})
export type BoundInvite = typeof BoundInvite.Type

/** A user of the home server has bound an address that was invited to rooms. */
export const OnBind = Schema.Struct({
  medium: Medium,
  address: Schema.String,
  mxid: UserId,
  invites: Schema.Array(BoundInvite).check(Schema.isMaxLength(maxInvitesPerAddress))
}).annotate({ identifier: "OnBind" })
export type OnBind = typeof OnBind.Type
