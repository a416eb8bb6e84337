/**
 * Finding users by their addresses: one address as it is, or many by their hashes, so that a reader of the request
 * does not learn the addresses, and the caller learns nothing of addresses that it does not know.
 *
 * The hash of an address is `sha256` over `<address> <medium> <pepper>` (canonical address, single spaces, UTF-8), in
 * URL-safe base64 without padding. The pepper changes from time to time.
 *
 * Source: "Identity" of the draft, "Association lookup" of the identity service specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { body } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { UserId } from "../Identifiers.ts"
import { lookupErrors } from "./IdentityError.ts"
import { Medium } from "./ThirdPartyId.ts"

/** The one way in which addresses are hashed. */
export const hashAlgorithm = "sha256"

/** The most addresses of one request. */
const maxLookups = 1_000

/** How addresses are hashed for a lookup. */
export const HashDetails = body(
  Schema.Struct({ lookup_pepper: Schema.String, algorithms: Schema.Array(Schema.String) }).annotate({
    identifier: "HashDetails"
  })
)
export type HashDetails = typeof HashDetails.Type

/** A lookup of hashed addresses. */
export const HashedLookup = Schema.Struct({
  algorithm: Schema.String.check(Schema.isMaxLength(64)).annotate({ description: "One of `algorithms`" }),
  pepper: Schema.String.check(Schema.isMaxLength(255)).annotate({ description: "The `lookup_pepper`" }),
  addresses: Schema.Array(
    Schema.String.check(
      Schema.isPattern(/^[A-Za-z0-9_-]{43}$/, { expected: "a hash: 43 characters of URL-safe base64" })
    )
  ).check(Schema.isMaxLength(maxLookups))
}).annotate({ identifier: "HashedLookup" })
export type HashedLookup = typeof HashedLookup.Type

/** The users of addresses. An address without a user is absent. */
export const Mappings = body(
  Schema.Struct({
    mappings: Schema.Record(Schema.String, UserId).annotate({ description: "The user IDs by hash" })
  }).annotate({ identifier: "Mappings" })
)
export type Mappings = typeof Mappings.Type

const FoundAssociation = Schema.Struct({
  medium: Schema.optionalKey(Medium),
  address: Schema.optionalKey(Schema.String),
  mxid: Schema.optionalKey(UserId),
  ts: Schema.optionalKey(Schema.Int),
  not_before: Schema.optionalKey(Schema.Int),
  not_after: Schema.optionalKey(Schema.Int),
  signatures: Schema.optionalKey(Schema.Record(Schema.String, Schema.Record(Schema.String, Schema.String)))
}).annotate({ identifier: "FoundAssociation" })

/** The signed association, or `{}`. */
export const LookupAnswer = body(FoundAssociation)
export type LookupAnswer = typeof LookupAnswer.Type

export class LookupApi extends HttpApiGroup.make("lookup")
  .add(
    HttpApiEndpoint.get("lookup", "/lookup", {
      query: { medium: Medium, address: Schema.String.check(Schema.isMinLength(1), Schema.isMaxLength(320)) },
      success: LookupAnswer,
      error: lookupErrors
    }).annotateMerge(
      documented({
        summary: "The user of an address",
        text: "The association as it was signed; `{}` if there is none. Errors: M_INVALID_ADDRESS, M_LIMIT_EXCEEDED.",
        who: "anyone, at a limited rate"
      })
    ),
    HttpApiEndpoint.get("hashDetails", "/hash_details", { success: HashDetails }).annotateMerge(
      documented({ summary: "The parameters of hashed lookups", who: "anyone" })
    ),
    HttpApiEndpoint.post("lookupHashed", "/lookup", {
      payload: HashedLookup,
      success: Mappings,
      error: lookupErrors
    }).annotateMerge(
      documented({
        summary: "The users of addresses",
        text: `At most ${maxLookups} hashes. Every hash counts against the limit. Errors: M_INVALID_PEPPER, M_LIMIT_EXCEEDED.`,
        who: "anyone, at a limited rate"
      })
    )
  )
  .annotateMerge(OpenApi.annotations({ title: "Lookup", description: "Finding users by their addresses." })) {}
