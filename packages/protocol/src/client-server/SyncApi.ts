/**
 * `/sync`: the updates since a token.
 *
 * Source: "Syncing" of the client-server specification.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { Authentication, LongPoll } from "../api/Authentication.ts"
import { documented } from "../api/Documentation.ts"
import { boundedText } from "../api/Parameters.ts"
import { Count, QueryToken } from "./RoomsApi.ts"
import { SyncAnswer } from "./SyncAnswer.ts"

const Flag = Schema.Literals(["true", "false"])

export class SyncApi extends HttpApiGroup.make("clientServer.sync")
  .add(
    HttpApiEndpoint.get("sync", "/v3/sync", {
      query: {
        since: QueryToken,
        filter: Schema.optional(boundedText(65_536)),
        full_state: Schema.optional(Flag),
        set_presence: Schema.optional(Schema.Literals(["online", "offline", "unavailable"])),
        timeout: Schema.optional(Count.annotate({ description: "Milliseconds to wait for updates" })),
        use_state_after: Schema.optional(Flag),
        "org.matrix.msc4222.use_state_after": Schema.optional(Flag)
      },
      success: SyncAnswer
    })
      .annotate(LongPoll, true)
      .annotateMerge(
        documented({
          summary: "The updates since a token",
          text:
            "Without `since`, everything that the user may see now. Waits up to `timeout` (at most five minutes). Errors: M_INVALID_PARAM " +
            "for a token or a filter that this server did not issue.",
          who: "any user"
        })
      )
  )
  .middleware(Authentication)
  .annotateMerge(OpenApi.annotations({ title: "Syncing" })) {}
