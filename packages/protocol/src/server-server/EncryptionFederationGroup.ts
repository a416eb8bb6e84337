/**
 * Keys of devices, for other home servers.
 *
 * Source: "End-to-End Encryption" and "Device Management" of the server-server specification.
 */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { ReadOnly } from "../api/Authentication.ts"
import { AnyObject } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { OriginAuthentication } from "../federation/OriginAuthentication.ts"
import { UserId } from "../Identifiers.ts"

const who = "any home server"

export class EncryptionFederationGroup extends HttpApiGroup.make("serverServer.encryption")
  .add(
    HttpApiEndpoint.get("devices", "/_matrix/federation/v1/user/devices/:userId", {
      params: { userId: UserId },
      success: AnyObject
    }).annotateMerge(
      documented({ summary: "The devices of a user with their keys", text: "Errors: M_NOT_FOUND.", who })
    ),
    HttpApiEndpoint.post("queryKeys", "/_matrix/federation/v1/user/keys/query", {
      payload: AnyObject,
      success: AnyObject
    })
      .annotate(ReadOnly, true)
      .annotateMerge(
        documented({ summary: "The keys of users and their devices", text: "Errors: M_BAD_JSON, M_TOO_LARGE.", who })
      ),
    HttpApiEndpoint.post("claimKeys", "/_matrix/federation/v1/user/keys/claim", {
      payload: AnyObject,
      success: AnyObject
    }).annotateMerge(documented({ summary: "Claim one-time keys", text: "Errors: M_BAD_JSON, M_TOO_LARGE.", who }))
  )
  .middleware(OriginAuthentication)
  .annotateMerge(OpenApi.annotations({ title: "End-to-end encryption" })) {}
