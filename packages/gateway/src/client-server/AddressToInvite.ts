/**
 * Addresses that clients invite in place of users.
 *
 * Source: "Third-party Invites" of the client-server specification.
 */
import type { AddressToInvite } from "@greenroom/actors/identity/ThirdPartyInvites"
import type { JsonObject } from "@greenroom/protocol/Json"
import { BadJson } from "@greenroom/protocol/MatrixError"
import { Effect } from "effect"

/** Errors: M_BAD_JSON. */
export const addressToInvite = ({
  address,
  id_server,
  medium
}: JsonObject): Effect.Effect<AddressToInvite, BadJson> => {
  if (medium !== "email" && medium !== "msisdn") {
    return Effect.fail(new BadJson({ error: "medium: must be email or msisdn" }))
  }
  if (typeof address !== "string" || (id_server !== undefined && typeof id_server !== "string")) {
    return Effect.fail(new BadJson({ error: "address, id_server: expected strings" }))
  }
  return Effect.succeed({ medium, address, ...(id_server === undefined ? {} : { id_server }) })
}
