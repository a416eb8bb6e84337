/**
 * Invitations of addresses over HTTP: stored, and sent to the address.
 *
 * The names of room and sender come from the inviting server and appear in the mail. They are truncated, and left out if they look
 * like a link, so that mails of this server cannot carry advertisements.
 *
 * Source: "Identity" of the draft.
 */
import { generateKeyPairSync } from "node:crypto"
import { IdentityApi, laterIdentityPrefix } from "@greenroom/protocol/identity/IdentityApi"
import { MediumNotSupported, type MessageSendError } from "@greenroom/protocol/identity/IdentityError"
import type { StoreInvite } from "@greenroom/protocol/identity/InvitationApi"
import { redactAddress, type ThirdPartyId } from "@greenroom/protocol/identity/ThirdPartyId"
import { encodeBase64, exportVerifyKey, verifyKeyOf } from "@greenroom/room/Signing"
import { SigningKeys } from "@greenroom/store/SigningKeys"
import { Effect, Option } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { IdentityOptions } from "../IdentityOptions.ts"
import { MailSender } from "../MailSender.ts"
import { Requests } from "../Requests.ts"
import { SentMessages } from "../SentMessages.ts"
import { SmsSender } from "../SmsSender.ts"
import { StoredInvites } from "../StoredInvites.ts"
import { oneLine, Templates } from "../Templates.ts"
import { requireCanonical } from "./LookupHandlers.ts"

/** The longest name in a message, in characters. */
const maxNameLength = 80

const looksLikeLink = /:\/\/|www\.|[\p{L}\p{N}]\.[\p{L}]{2,}(?:[/?#]|$)/iu

/** The first name that may appear in a message. */
const nameFrom = (...candidates: ReadonlyArray<string | undefined>): string | undefined =>
  candidates
    .filter((name) => name !== undefined)
    .map(oneLine)
    .find((name) => name !== "" && name.length <= maxNameLength && !looksLikeLink.test(name))

/** An ephemeral key of the invitation. Its private half is discarded, because this server signs with its long-term key. */
const newEphemeralKey = (): string => encodeBase64(exportVerifyKey(generateKeyPairSync("ed25519").publicKey))

export const invitationHandlers = HttpApiBuilder.group(IdentityApi, "invitations", (handlers) =>
  Effect.gen(function* () {
    const invites = yield* StoredInvites
    const messages = yield* SentMessages
    const requests = yield* Requests
    const signingKeys = yield* SigningKeys
    const templates = yield* Templates
    const mail = yield* MailSender
    const sms = yield* SmsSender
    const { publicUrl, serverName } = yield* IdentityOptions

    /** Sends the message; fails if this server has no sender for the medium. */
    const messageTo = (
      { address, medium }: ThirdPartyId,
      invite: StoreInvite
    ): Effect.Effect<Effect.Effect<void, MessageSendError>, MediumNotSupported> => {
      const values = {
        address,
        sender: nameFrom(invite.sender_display_name) ?? invite.sender,
        room: nameFrom(invite.room_name, invite.room_alias) ?? "a conversation",
        server_name: serverName
      }
      const sending =
        medium === "email"
          ? Option.map(mail, (send) =>
              send({
                to: address,
                subject: templates.render("invite.subject.txt", values),
                text: templates.render("invite.txt", values),
                html: templates.render("invite.html", values)
              })
            )
          : Option.map(sms, (send) =>
              send({ to: `+${address}`, text: templates.render("invite-sms.txt", values).trim() })
            )
      return Option.match(sending, {
        onNone: () => Effect.fail(new MediumNotSupported({ error: `This server sends nothing to ${medium}` })),
        onSome: Effect.succeed
      })
    }

    const publicKey = Effect.map(signingKeys.current, (key) => ({
      public_key: encodeBase64(exportVerifyKey(verifyKeyOf(key))),
      key_validity_url: `${publicUrl}${laterIdentityPrefix}/pubkey/isvalid`
    }))

    return handlers.handle("store", ({ payload, request }) =>
      Effect.gen(function* () {
        const { medium, room_id: roomId, sender } = payload
        const address = yield* requireCanonical(medium, payload.address)
        const thirdPartyId: ThirdPartyId = { medium, address }
        const send = yield* messageTo(thirdPartyId, payload)
        yield* requests.take("lookups", request)
        yield* requests.take("messages", request)
        const ephemeralKey = newEphemeralKey()
        const token = yield* invites.add({ thirdPartyId, roomId, sender, ephemeralKey })
        yield* messages.count(thirdPartyId).pipe(
          Effect.andThen(send),
          Effect.onError(() => invites.remove(token))
        )
        const key = yield* publicKey
        return {
          token,
          public_keys: [
            key,
            {
              public_key: ephemeralKey,
              key_validity_url: `${publicUrl}/_matrix/identity/v2/pubkey/ephemeral/isvalid`
            }
          ],
          public_key: key.public_key,
          display_name: redactAddress(thirdPartyId)
        }
      })
    )
  })
)
