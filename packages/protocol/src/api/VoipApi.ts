/**
 * Calls: the events of a call are room events; the server's part is TURN credentials.
 *
 * Source: "Voice over IP" of the draft.
 */
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { TurnServer } from "./Answers.ts"
import { Authentication } from "./Authentication.ts"
import { documented } from "./Documentation.ts"

export class VoipApi extends HttpApiGroup.make("voip")
  .add(
    HttpApiEndpoint.get("turnServer", "/voip/turnServer", { success: TurnServer }).annotateMerge(
      documented({
        summary: "Credentials for a TURN server",
        text: "Time-limited, by the shared-secret scheme of TURN REST. `{}` if no TURN server is configured.",
        who: "any user"
      })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Calls", description: "m.call.* are room events." })) {}
