/**
 * The user of a login: a user ID or localpart, an email address or a phone number of the account.
 *
 * Source: "Identifier types" of the client-server specification.
 */
import { canonicalAddress } from "@greenroom/protocol/identity/ThirdPartyId"
import { isJsonObject, type JsonObject } from "@greenroom/protocol/Json"
import { BadJson, BadRequest, type MatrixError } from "@greenroom/protocol/MatrixError"
import type { UserIdentityStore } from "@greenroom/store/UserIdentityStore"
import { Effect, Option } from "effect"
import { wrongCredentials } from "./Credentials.ts"

const byAddress = Effect.fnUntraced(function* (
  medium: string,
  address: string,
  identities: UserIdentityStore["Service"]
) {
  if (medium !== "email" && medium !== "msisdn") return yield* wrongCredentials
  const canonical = canonicalAddress({ address, medium })
  if (canonical === undefined) return yield* wrongCredentials
  const owner = yield* identities.userOfAddress({ medium, address: canonical })
  return Option.isSome(owner) ? owner.value : yield* wrongCredentials
})

/**
 * The user ID or localpart that a request names in `identifier` or, as older clients do, in `user` or `medium` and
 * `address`; undefined if it names no user. Errors: M_FORBIDDEN for an address that no account has; M_BAD_JSON.
 */
export const userOfIdentifier = Effect.fnUntraced(function* (
  body: JsonObject,
  identities: UserIdentityStore["Service"]
): Effect.fn.Return<string | undefined, MatrixError> {
  const { identifier } = body
  if (!isJsonObject(identifier)) {
    if (typeof body.user === "string") return body.user
    const { address, medium } = body
    return typeof medium === "string" && typeof address === "string"
      ? yield* byAddress(medium, address, identities)
      : undefined
  }
  const text = (key: string) =>
    typeof identifier[key] === "string"
      ? Effect.succeed(identifier[key])
      : Effect.fail(new BadJson({ error: `identifier.${key}: expected a string` }))
  switch (identifier.type) {
    case "m.id.user":
      return yield* text("user")
    case "m.id.thirdparty":
      return yield* byAddress(yield* text("medium"), yield* text("address"), identities)
    case "m.id.phone": {
      // The country is ignored: accounts have numbers in the international form.
      const phone = typeof identifier.phone === "string" ? identifier.phone : yield* text("number")
      return yield* byAddress("msisdn", phone, identities)
    }
    default:
      return yield* new BadRequest({ error: "identifier.type: must be m.id.user, m.id.thirdparty or m.id.phone" })
  }
})
