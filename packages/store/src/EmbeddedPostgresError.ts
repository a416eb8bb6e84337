/**
 * Why the embedded PostgreSQL cannot run: one line that an operator understands, and that says what to do.
 */
import * as Schema from "effect/Schema"

export class EmbeddedPostgresError extends Schema.TaggedError<EmbeddedPostgresError>()("EmbeddedPostgresError", {
  message: Schema.String,
  cause: Schema.optional(Schema.Defect())
}) {}
