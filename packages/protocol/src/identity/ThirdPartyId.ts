/**
 * Third-party IDs (3PIDs): addresses by which people know each other outside of Matrix, an email address or a phone
 * number. They have one canonical form, in which they are stored, signed, looked up and hashed:
 *
 * - `email`: lower case, ASCII, at most 254 characters; a domain in other scripts as Punycode.
 * - `msisdn`: the digits of the international number (E.164), without `+` and without leading zeros.
 *
 * An address in canonical form has no white space, quotes or control characters, so that it can stand in the header of a
 * mail as it is.
 *
 * Source: "Identity" of the draft, "3PID Types" of the appendices of the specification.
 */
import * as Schema from "effect/Schema"

/** The sorts of third-party IDs. */
export const media = ["email", "msisdn"] as const

/** The sort of a third-party ID: an email address, or a phone number. */
export const Medium = Schema.Literals(media)
export type Medium = typeof Medium.Type

/** The longest address, in characters (RFC 5321). */
const maxAddressLength = 254

const emailPattern =
  /^[a-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[a-z0-9!#$%&'*+/=?^_`{|}~-]+)*@(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9-]{0,62}[a-z0-9]$/

const msisdnPattern = /^[1-9][0-9]{4,14}$/

const isEmail = (text: string): boolean =>
  text.length <= maxAddressLength && text.indexOf("@") <= 64 && emailPattern.test(text)

/** The canonical form of an email address; undefined for malformed text. */
export const canonicalEmail = (text: string): string | undefined => {
  if (text.length > maxAddressLength) return undefined
  const lower = text.toLowerCase()
  return isEmail(lower) ? lower : undefined
}

/**
 * The canonical form of an international phone number, with or without `+`, spaces and hyphens; undefined for malformed
 * text. Identity servers read numbers as they are dialled within a country, when an address is validated.
 */
export const canonicalPhoneNumber = (text: string): string | undefined => {
  const digits = text.replace(/^\+/, "").replaceAll(/[ -]/g, "")
  return msisdnPattern.test(digits) ? digits : undefined
}

/** True for an address in its canonical form. */
export const isCanonicalAddress = (medium: Medium, address: string): boolean =>
  medium === "email" ? isEmail(address) : msisdnPattern.test(address)

/** A medium and an address in its canonical form. */
export const ThirdPartyId = Schema.Struct({ medium: Medium, address: Schema.String })
  .check(
    Schema.makeFilter(
      ({ address, medium }: { readonly medium: Medium; readonly address: string }) =>
        isCanonicalAddress(medium, address) || { path: ["address"], issue: "Expected an address in its canonical form" }
    )
  )
  .annotate({ identifier: "ThirdPartyId" })
export interface ThirdPartyId {
  readonly medium: Medium
  readonly address: string
}

/** The canonical form of an address; undefined for malformed text. */
export const canonicalAddress = ({ address, medium }: ThirdPartyId): string | undefined =>
  medium === "email" ? canonicalEmail(address) : canonicalPhoneNumber(address)

/** A third-party ID with its address in canonical form; unchanged if the address is malformed. */
export const toCanonical = (thirdPartyId: ThirdPartyId): ThirdPartyId => ({
  medium: thirdPartyId.medium,
  address: canonicalAddress(thirdPartyId) ?? thirdPartyId.address
})

const redactPart = (part: string): string => `${part.slice(0, 1)}...`

/** The obfuscated form of an address: `f...@e...`, `49...`. */
export const redactAddress = ({ address, medium }: ThirdPartyId): string =>
  medium === "email" ? address.split("@").map(redactPart).join("@") : `${address.slice(0, 2)}...`
