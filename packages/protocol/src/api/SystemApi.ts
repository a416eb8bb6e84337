/**
 * Endpoints for operators: the health of the server.
 */
import { Schema } from "effect"
import { HttpApiEndpoint, HttpApiGroup, OpenApi } from "effect/http-api"
import { body } from "./Body.ts"
import { documented } from "./Documentation.ts"

/** `ok` is true if the server can serve. `checks` has `ok` or the fault of each part that it needs. */
export const Health = body(
  Schema.Struct({
    ok: Schema.Boolean,
    version: Schema.String,
    checks: Schema.Record(Schema.String, Schema.String),
    /**
     * For how many milliseconds rows of the event log could not be read: a transaction of the database that began before
     * them is still running. Clients wait for them meanwhile.
     */
    event_log_lag_ms: Schema.optionalKey(Schema.Number)
  }).annotate({
    identifier: "Health",
    examples: [{ ok: true, version: "0.1.0", checks: { database: "ok", gateway: "ok" } }]
  })
)
export type Health = typeof Health.Type

export class SystemApi extends HttpApiGroup.make("system")
  .add(
    HttpApiEndpoint.get("health", "/health", { success: Health }).annotateMerge(
      documented({ summary: "The health of the server", text: "503 with the same body if it is not.", who: "anyone" })
    )
  )
  .annotateMerge(OpenApi.annotations({ title: "System", description: "For operators." })) {}
