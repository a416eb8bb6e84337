/**
 * The reason why the embedded PostgreSQL cannot run: one line for the operator, with the remedy.
 */
import * as Schema from "effect/Schema"

export class EmbeddedPostgresError extends Schema.TaggedError<EmbeddedPostgresError>()("EmbeddedPostgresError", {
  message: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {}
