/**
 * Associations: an identity server's signed word that a third-party ID belongs to a user. The end of an association is
 * signed too and has `mxid: null`, so that it can be replicated like any other.
 *
 * The signature is that of "Security": Ed25519 over the canonical JSON without `signatures`, by the server that checked
 * the address. A server that passes on another one's association adds its own signature.
 *
 * Source: "Identity" of the draft.
 */
import { Schema } from "effect"
import { UserId } from "../Identifiers.ts"
import { Integer } from "../Json.ts"
import { isCanonicalAddress, Medium } from "./ThirdPartyId.ts"

const time = (description: string) => Integer.annotate({ description: `${description}, in milliseconds since 1970` })

const Signatures = Schema.Record(Schema.String, Schema.Record(Schema.String, Schema.String)).annotate({
  description: "By server name and key ID"
})

const keys = {
  medium: Medium,
  address: Schema.String.annotate({ description: "In its canonical form" }),
  ts: time("When the address was bound or unbound"),
  not_before: time("From when the association holds"),
  not_after: time("Until when the association holds"),
  signatures: Signatures
}

const isCanonical = Schema.makeFilter(
  ({ address, medium }: { readonly medium: Medium; readonly address: string }) =>
    isCanonicalAddress(medium, address) || { path: ["address"], issue: "Expected an address in its canonical form" }
)

/** An address that belongs to a user. */
export const SignedAssociation = Schema.Struct({ ...keys, mxid: UserId })
  .check(isCanonical)
  .annotate({ identifier: "SignedAssociation" })
export type SignedAssociation = typeof SignedAssociation.Type

/** An association, or with `mxid: null` its end. This is what identity servers exchange. */
export const AssociationRecord = Schema.Struct({ ...keys, mxid: Schema.NullOr(UserId) })
  .check(isCanonical)
  .annotate({ identifier: "AssociationRecord" })
export type AssociationRecord = typeof AssociationRecord.Type
