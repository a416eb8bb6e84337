/**
 * Invitations of people who are not on Matrix yet: a home server leaves one for an address; the identity server writes
 * to the address, and when it is bound to a user informs that user's home server (`OnBind`).
 *
 * Source: "Identity" of the draft.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { body } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { RoomId, UserId } from "../Identifiers.ts"
import { messageErrors } from "./IdentityError.ts"
import { Medium } from "./ThirdPartyId.ts"

const mailText = (description: string) =>
  Schema.optionalKey(Schema.String.check(Schema.isMaxLength(1_024)).annotate({ description }))

/** An invitation of an address to a room. */
export const StoreInvite = Schema.Struct({
  medium: Medium,
  address: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(320)),
  room_id: RoomId,
  sender: UserId,
  room_alias: mailText("For the mail"),
  room_name: mailText("For the mail"),
  room_avatar_url: mailText("Not used"),
  room_join_rules: mailText("Not used"),
  sender_display_name: mailText("For the mail"),
  sender_avatar_url: mailText("Not used")
}).annotate({ identifier: "StoreInvite" })
export type StoreInvite = typeof StoreInvite.Type

const PublicKey = Schema.Struct({
  public_key: Schema.String.annotate({ description: "Unpadded base64" }),
  key_validity_url: Schema.String.annotate({ description: "Answers whether the key still holds" })
})

/** What the room needs for an m.room.third_party_invite, so that the user of the address can accept it. */
export const StoredInvite = body(
  Schema.Struct({
    token: Schema.String.annotate({ description: "The token that the identity server will sign for the invited user" }),
    public_keys: Schema.Array(PublicKey),
    public_key: Schema.String.annotate({ description: "The first of `public_keys`, as earlier home servers read it" }),
    display_name: Schema.String.annotate({ description: "The obfuscated address, for the room" })
  }).annotate({ identifier: "StoredInvite" })
)
export type StoredInvite = typeof StoredInvite.Type

export class InvitationApi extends HttpApiGroup.make("invitations")
  .add(
    HttpApiEndpoint.post("store", "/store-invite", {
      payload: StoreInvite,
      success: StoredInvite,
      error: messageErrors
    }).annotateMerge(
      documented({
        summary: "Invite an address",
        text: "Errors: M_THREEPID_IN_USE with the `mxid` to invite instead, M_INVALID_ADDRESS, M_LIMIT_EXCEEDED.",
        who: "home servers"
      })
    )
  )
  .annotateMerge(OpenApi.annotations({ title: "Invitations", description: "For people who are not on Matrix yet." })) {}
