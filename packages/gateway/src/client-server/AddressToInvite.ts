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
  id_access_token,
  id_server,
  medium
}: JsonObject): Effect.Effect<AddressToInvite, BadJson> => {
  if (medium !== "email" && medium !== "msisdn") {
    return Effect.fail(new BadJson({ error: "medium: must be email or msisdn" }))
  }
  const isText = (value: unknown) => value === undefined || (typeof value === "string" && value.length <= 4_096)
  if (typeof address !== "string" || !isText(id_server) || !isText(id_access_token)) {
    return Effect.fail(new BadJson({ error: "address, id_server, id_access_token: expected strings" }))
  }
  return Effect.succeed({
    medium,
    address,
    ...(id_server === undefined ? {} : { id_server: id_server as string }),
    ...(id_access_token === undefined ? {} : { id_access_token: id_access_token as string })
  })
}
