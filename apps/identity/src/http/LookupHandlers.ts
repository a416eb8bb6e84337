/**
 * Lookups over HTTP. Every requested address counts against the rate limit, known or not.
 *
 * Source: "Identity" of the draft.
 */
import { IdentityApi } from "@greenroom/protocol/identity/IdentityApi"
import { InvalidAddress, InvalidPepper } from "@greenroom/protocol/identity/IdentityError"
import { hashAlgorithm } from "@greenroom/protocol/identity/LookupApi"
import { canonicalEmail, type Medium } from "@greenroom/protocol/identity/ThirdPartyId"
import { Forbidden } from "@greenroom/protocol/MatrixError"
import { Effect, Option } from "effect"
import { HttpApiBuilder } from "effect/http-api"
import { Associations } from "../Associations.ts"
import { IdentityOptions } from "../IdentityOptions.ts"
import { Peppers } from "../Peppers.ts"
import { canonicalMsisdn } from "../PhoneNumber.ts"
import { Requests } from "../Requests.ts"

/** The canonical form of an address as a client wrote it. Errors: M_INVALID_ADDRESS. */
export const requireCanonical = (medium: Medium, text: string): Effect.Effect<string, InvalidAddress> => {
  const address = medium === "email" ? canonicalEmail(text) : canonicalMsisdn(text)
  return address === undefined
    ? Effect.fail(new InvalidAddress({ error: `Not ${medium === "email" ? "an email address" : "a phone number"}` }))
    : Effect.succeed(address)
}

export const lookupHandlers = HttpApiBuilder.group(IdentityApi, "lookup", (handlers) =>
  Effect.gen(function* () {
    const associations = yield* Associations
    const peppers = yield* Peppers
    const requests = yield* Requests
    const { singleLookup } = yield* IdentityOptions

    const invalidPepper = Effect.flatMap(peppers.pair, ({ current }) =>
      Effect.fail(
        new InvalidPepper({
          error: "lookup_pepper, algorithm: outdated or unknown, request hash_details again",
          algorithm: hashAlgorithm,
          lookup_pepper: current
        })
      )
    )

    return handlers
      .handle("lookup", ({ query: { address, medium }, request }) =>
        Effect.gen(function* () {
          if (!singleLookup) return yield* new Forbidden({ error: "This server looks up hashed addresses only" })
          yield* requests.take("lookups", request)
          const canonical = yield* requireCanonical(medium, address)
          const found = yield* associations.find({ medium, address: canonical })
          return Option.getOrElse(found, () => ({}))
        })
      )
      .handle("hashDetails", () =>
        Effect.map(peppers.pair, ({ current }) => ({ lookup_pepper: current, algorithms: [hashAlgorithm] }))
      )
      .handle("lookupHashed", ({ payload, request }) =>
        Effect.gen(function* () {
          yield* requests.take("lookups", request, Math.max(1, payload.addresses.length))
          if (payload.algorithm !== hashAlgorithm) return yield* invalidPepper
          const found = yield* associations.findHashed(payload.addresses, payload.pepper)
          return Option.isNone(found) ? yield* invalidPepper : { mappings: found.value }
        })
      )
  })
)
