/**
 * Invites by a token that was left for an address: an identity server has signed whose address it is, with a key that
 * m.room.third_party_invite names.
 *
 * Source: "Third-party invites" of the server-server specification, and the rules for m.room.member of the room versions.
 */
import type { Event } from "@greenroom/protocol/Event"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { Result } from "effect"
import { encodeBytes } from "../CanonicalJson.ts"
import { decodeBase64, importVerifyKey, isKeyId, verifyBytes } from "../Signing.ts"

/** The content that the identity server signed, in an invite. */
export const signedOf = (content: JsonObject): JsonObject | undefined => {
  const { third_party_invite: invite } = content
  return isJsonObject(invite) && isJsonObject(invite.signed) ? invite.signed : undefined
}

/** The token by which an invite was made, if it was. */
export const tokenOf = (content: JsonObject): string | undefined => {
  const token = signedOf(content)?.token
  return typeof token === "string" ? token : undefined
}

/** How many keys and signatures are tried with one another: a token has one or two, and an event has room for hundreds. */
const mostTried = 32

/** Keys are in either alphabet of base64. */
const bytesOf = (text: unknown): Uint8Array | undefined =>
  typeof text === "string" ? decodeBase64(text.replaceAll("-", "+").replaceAll("_", "/")) : undefined

const publicKeysOf = ({ public_key, public_keys }: JsonObject) => {
  const listed = Array.isArray(public_keys) ? public_keys.map((entry) => isJsonObject(entry) && entry.public_key) : []
  return [...new Set([public_key, ...listed])].slice(0, mostTried).flatMap((text) => {
    const bytes = bytesOf(text)
    const key = bytes === undefined ? undefined : Result.getOrUndefined(importVerifyKey(bytes))
    return key === undefined ? [] : [key]
  })
}

const signaturesOf = ({ signatures }: JsonObject): ReadonlyArray<Uint8Array> =>
  Object.values(isJsonObject(signatures) ? signatures : {}).flatMap((ofServer) =>
    Object.entries(isJsonObject(ofServer) ? ofServer : {}).flatMap(([keyId, signature]) => {
      const bytes = isKeyId(keyId) ? bytesOf(signature) : undefined
      return bytes?.length === 64 ? [bytes] : []
    })
  )

/** True if one of the signatures is by one of the keys that the m.room.third_party_invite names. */
export const isSignedBy = (signed: JsonObject, thirdPartyInvite: Event): boolean => {
  const { signatures: _, unsigned: __, ...body } = signed
  const bytes = encodeBytes(body)
  if (Result.isFailure(bytes)) return false
  const signatures = signaturesOf(signed).slice(0, mostTried)
  return publicKeysOf(thirdPartyInvite.content).some((key) =>
    signatures.some((signature) => verifyBytes(bytes.success, signature, key))
  )
}
