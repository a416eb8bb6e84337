/**
 * The state of the other home servers, for administrators.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { ServerName } from "../Identifiers.ts"
import { Authentication } from "./Authentication.ts"
import { body } from "./Body.ts"
import { documented } from "./Documentation.ts"

const time = (description: string) =>
  Schema.optionalKey(Schema.Int.annotate({ description: `${description}. Milliseconds since 1970` }))

const DestinationFields = Schema.Struct({
  destination: ServerName,
  queue_length: Schema.Int.annotate({ description: "How many PDUs wait for it" }),
  failures: Schema.Int.annotate({ description: "Attempts in a row that failed" }),
  last_attempt_ts: time("When a request to it was last noted: failures always, successes once a minute"),
  last_success_ts: time("When it was last noted that it answered"),
  last_error: Schema.optionalKey(Schema.String.annotate({ description: "The error of the last failed attempt" })),
  backoff_until: time("When it is tried again, if it is not heard from before")
}).annotate({ identifier: "Destination" })

/** The state of every other home server to which requests are sent. */
export const DestinationReports = body(
  Schema.Struct({ destinations: Schema.Array(DestinationFields) }).annotate({ identifier: "Destinations" })
)
export type DestinationReports = typeof DestinationReports.Type

export class DestinationsApi extends HttpApiGroup.make("destinations")
  .add(
    HttpApiEndpoint.get("destinations", "/admin/destinations", { success: DestinationReports }).annotateMerge(
      documented({
        summary: "The state of the other servers",
        text: "Every server that was tried, or for which something waits. Errors: M_FORBIDDEN.",
        who: "admins"
      })
    )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Destinations", description: "For operators." })) {}
