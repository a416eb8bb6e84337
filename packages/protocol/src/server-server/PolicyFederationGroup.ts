/**
 * The API of a policy server for the home servers of its rooms.
 *
 * Source: "Policy servers" of the server-server specification.
 */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { AnyObject } from "../api/Body.ts"
import { documented } from "../api/Documentation.ts"
import { OriginAuthentication } from "../federation/OriginAuthentication.ts"

export class PolicyFederationGroup extends HttpApiGroup.make("serverServer.policy")
  .add(
    HttpApiEndpoint.post("sign", "/_matrix/policy/v1/sign", {
      payload: AnyObject,
      success: AnyObject
    }).annotateMerge(
      documented({
        summary: "Ask the policy server of a room to sign an event",
        text:
          "The body is the PDU, signed by the server of its sender. The answer is the signature of this server by its key " +
          "`ed25519:policy_server`. Errors: M_FORBIDDEN (400) with the reason for the event's sender, M_BAD_JSON, M_NOT_FOUND where " +
          "this server is not the policy server of the room, M_UNRECOGNIZED where it is none at all, M_LIMIT_EXCEEDED.",
        who: "any home server"
      })
    )
  )
  .middleware(OriginAuthentication)
  .annotateMerge(OpenApi.annotations({ title: "Policy server" })) {}
