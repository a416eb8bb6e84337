/**
 * Converts phone numbers as users write them to their canonical form (E.164 without `+`).
 */
import { isCanonicalAddress } from "@greenroom/protocol/identity/ThirdPartyId"
import { type CountryCode, isSupportedCountry, parsePhoneNumberFromString } from "libphonenumber-js"

/**
 * The canonical form; undefined for an invalid number. With a `country` the number has the national form of that country, otherwise
 * the international form, with or without a leading `+`.
 */
export const canonicalMsisdn = (text: string, country?: string): string | undefined => {
  if (country !== undefined && !isSupportedCountry(country)) return undefined
  const international = country === undefined && /^[1-9][0-9]+$/.test(text) ? `+${text}` : text
  const number = parsePhoneNumberFromString(international, {
    ...(country === undefined ? {} : { defaultCountry: country as CountryCode }),
    extract: false
  })
  if (number === undefined || !number.isPossible()) return undefined
  const digits = number.number.slice(1)
  return isCanonicalAddress("msisdn", digits) ? digits : undefined
}
